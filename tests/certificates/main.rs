//! Identities: how they are obtained, renewed, lost and found again.

mod a_join_token_works_once;
mod a_missing_ca_is_waited_for;
mod a_replaced_root_is_picked_up;
mod csr_cannot_choose_its_name;
mod lost_answers_cost_nothing;
mod nobody_poses_as_the_ca;
mod nothing_issued_is_lost_when_the_ca_is_killed;
mod relay;
mod rig;
mod rotations_go_unnoticed;
mod secrets_stay_secret;
mod svid_files_are_private_and_renewed;
mod workload;
