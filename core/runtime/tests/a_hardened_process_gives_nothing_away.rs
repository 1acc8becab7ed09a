//! Hardening changes the whole process, so this test has one of its own.

use kith_runtime::process::{Hardened, harden};
use rustix::process::{DumpableBehavior, Resource, Rlimit, dumpable_behavior, getrlimit, setrlimit};

#[test]
fn a_hardened_process_gives_nothing_away() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(64), ..limit }).unwrap();

    assert_eq!(harden(), Ok(Hardened { open_files: limit.maximum }));
    assert_eq!(getrlimit(Resource::Nofile), Rlimit { current: limit.maximum, maximum: limit.maximum });
    assert_eq!(getrlimit(Resource::Core), Rlimit { current: Some(0), maximum: Some(0) });
    assert_eq!(dumpable_behavior(), Ok(DumpableBehavior::NotDumpable));
    // Again changes nothing.
    assert_eq!(harden(), Ok(Hardened { open_files: limit.maximum }));
}
