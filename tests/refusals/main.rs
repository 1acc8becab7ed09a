//! Whoever is not who it should be is refused for its own reason; whoever is takes part with any program; and no silence,
//! flood, cut or shortage breaks more than itself.

mod mesh;
mod raw;

mod a_cut_wire_ends_both_sides_in_time;
mod a_program_with_an_svid_takes_part;
mod an_end_without_close_notify_is_a_reset;
mod idle_connections_are_held_and_all_echo;
mod only_an_explicit_refusal_is_tried_elsewhere;
mod refusals_reach_the_client_by_their_name;
mod silence_and_garbage_cost_little;
mod wanting_descriptors_breaks_nothing;
mod wrong_clients_are_refused_with_their_alert;
mod wrong_servers_are_refused_with_their_alert;
