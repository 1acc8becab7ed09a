//! What passes through two sidecars arrives as it was sent, and nothing of it is seen on the wire.

mod applications;
mod everything_arrives;
mod two_applications_talk;
