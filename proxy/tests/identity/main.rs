//! What becomes of a workload's identity, with a real CA at the other end of real TLS.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in tests a panic is the way to fail"
)]

mod a_workload_gets_its_identity;
mod an_answer_for_somebody_else_is_refused;
mod an_expired_svid_is_not_ready_and_heals;
mod another_ca_is_refused;
mod bundles_are_followed_and_acknowledged;
mod ca;
mod files_are_read_again_for_every_attempt;
mod lost_answers_cost_nothing;
mod renewal_goes_on_by_itself;
mod state_outlives_the_process;
mod status_tells_who_asks;
mod svid_files_are_private_and_fit;
mod workload;
