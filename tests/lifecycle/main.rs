//! How a sidecar begins, what it leaves alone, what its own ports answer, and how it ends.

mod a_connection_that_never_ends_is_reset_at_the_bound;
mod a_drain_serves_until_nobody_needs_it;
mod a_killed_sidecar_lets_nothing_through;
mod a_pod_reaches_itself;
mod a_pod_without_ipv6_is_as_good;
mod a_wrong_setting_ends_with_its_name;
mod another_endpoint_takes_over;
mod applications_that_trust_loopback_stay_safe;
mod before_the_first_svid_and_answer;
mod capture_proves_itself;
mod grpcurl_works_untaught;
mod our_ports_give_nothing_away;
mod ports_that_are_not_ours_pass_in_plaintext;
mod rig;
mod the_mesh_file_is_followed;
