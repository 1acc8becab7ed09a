//! What the CA agent promises, each claim in a file of its name: a whole agent within the process, real TLS over
//! loopback, a real store on disk.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

mod a_broken_state_directory_is_refused;
mod a_failed_store_issues_nothing;
mod a_token_works_for_one_key;
mod an_svid_renews_itself;
mod bad_requests_are_refused;
mod csr_cannot_choose_its_name;
mod each_port_serves_its_own;
mod identities_are_listed_and_paged;
mod stopping_is_orderly;
mod the_issuing_authority_replaces_itself;
mod the_operators_intermediate_signs;
mod the_program_speaks_plainly;
mod trust_bundles_are_streamed;
