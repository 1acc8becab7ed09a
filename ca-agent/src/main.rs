//! `kith-ca-agent`: attests workloads and issues their X.509-SVIDs.

fn main() -> std::process::ExitCode {
    kith_ca_agent::main()
}
