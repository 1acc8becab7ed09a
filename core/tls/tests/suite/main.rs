//! What `kith-tls` promises, proved with generated certificates: pure, over duplex pipes, over loopback, and against
//! OpenSSL.

#[cfg(test)]
mod a_bundle_holds_authorities_and_nothing_else;
#[cfg(test)]
mod a_chain_is_proved_or_refused_by_its_reason;
#[cfg(test)]
mod a_pinned_root_is_enough_for_a_first_contact;
#[cfg(test)]
mod bytes_cannot_break_the_parsers;
#[cfg(test)]
mod closing_is_told_from_cutting;
#[cfg(test)]
mod common;
#[cfg(test)]
mod credentials_enter_through_one_door;
#[cfg(test)]
mod every_refusal_reaches_the_peer_as_its_alert;
#[cfg(test)]
mod grpc_proves_both_ends_and_rotates;
#[cfg(test)]
mod handshakes_agree_on_what_the_design_says;
#[cfg(test)]
mod openssl_understands_us;
#[cfg(test)]
mod silence_and_garbage_cost_little;
