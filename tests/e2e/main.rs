//! The end-to-end tests: real programs in real namespaces. Each module's name is the claim it proves.

mod capture_leads_every_connection_through_the_sidecar;
mod half_closed_connections_outlive_connection_tracking;
mod harness_sees_what_is_on_the_wire;
mod init_is_idempotent_and_undone;
mod init_says_what_to_do;
mod no_packet_slips_past_the_rules;
