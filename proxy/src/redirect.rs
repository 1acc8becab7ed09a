//! Capture: the rules that lead a pod's TCP through its sidecar.
//!
//! [`plan`] is a pure function from settings to a ruleset; [`apply`] loads it and believes nothing but what the kernel
//! then says it has. The same plan serves an init container and a CNI plugin.

mod apply;
mod kernel;
mod plan;
mod settings;

pub use self::{
    apply::{ApplyError, apply, undo, verify},
    plan::{Chain, Hook, Kind, Match, Plan, Rule, Verdict, plan, render},
    settings::{Settings, SettingsError},
};

/// The name of our table, of family `inet`.
pub const TABLE: &str = "kith";
