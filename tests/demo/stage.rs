//! What the demo plays on: five pods on a wire, and the applications in three of them.

use std::{fs, net::SocketAddr, time::Duration};

use kith_tests::{
    Net, Pod, PodCommand,
    peers::{APPLICATION_UID, Nginx, Postgres, postgres_client},
};

use crate::screen::{Screen, as_typed};

/// Nobody waits longer for one command.
const PATIENCE: Duration = Duration::from_secs(30);

/// Pods and applications. Fields go in this order, the wire last.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) nginx: Nginx,
    _postgres: Postgres,
    pub(crate) control: Pod,
    pub(crate) front: Pod,
    pub(crate) web: Pod,
    pub(crate) db: Pod,
    pub(crate) intruder: Pod,
    pub(crate) secrets: Secrets,
    pub(crate) net: Net,
}

/// What nobody on the wire is to read. New ones each time.
#[derive(Debug)]
pub(crate) struct Secrets {
    letter: String,
    note: String,
}

impl Stage {
    pub(crate) fn set() -> Self {
        let net = Net::new();
        let [control, front, web, db, intruder] =
            ["control", "front", "web", "db", "intruder"].map(|name| net.pod(name));
        let secrets = Secrets {
            letter: format!("the vault opens with {}", random()),
            note: format!("the spare key is {}", random()),
        };
        let nginx = Nginx::start(&web, &[web.at(80)]);
        nginx.put("letter", format!("Dear Ada, {}.\n", secrets.letter).as_bytes());
        let postgres = Postgres::start(&db, "*");
        let note = format!("create table notes as select '{}' as note", secrets.note);
        let stage = Self { nginx, _postgres: postgres, control, front, web, db, intruder, secrets, net };
        stage.psql_of_db(&note);
        stage
    }

    /// What curl asks, and what it is to get.
    pub(crate) fn letter(&self) -> (PodCommand, String) {
        (self.curl(&self.front, "/letter"), format!("Dear Ada, {}.\n", self.secrets.letter))
    }

    /// What psql asks, and what it is to get.
    pub(crate) fn note(&self) -> (PodCommand, String) {
        let query = self.psql().args(["-Atc", "select note from notes"]);
        (query, format!("{}\n", self.secrets.note))
    }

    /// curl, from this pod to nginx.
    pub(crate) fn curl(&self, from: &Pod, path: &str) -> PodCommand {
        let url = format!("http://{}{path}", self.web.at(80).ip());
        // Whoever runs the demo may have a proxy in the environment.
        let command = from.command("curl").env("no_proxy", "*").env("NO_PROXY", "*").uid(APPLICATION_UID);
        command.args(["-sS", &url]).timeout(PATIENCE)
    }

    /// psql, from front to PostgreSQL, whose address is said twice so that the command shows it.
    pub(crate) fn psql(&self) -> PodCommand {
        let host = self.db.v4().to_string();
        postgres_client(&self.front, "psql", &host).args(["-h", &host, "-X"]).timeout(PATIENCE)
    }

    /// What PostgreSQL says to its own pod.
    pub(crate) fn psql_of_db(&self, query: &str) -> String {
        postgres_client(&self.db, "psql", "127.0.0.1").args(["-XAtc", query]).run()
    }

    /// Shows a command and runs it to its successful end.
    pub(crate) fn run(&self, screen: &Screen, pod: &Pod, command: PodCommand) -> String {
        self.show(screen, pod, &command);
        command.run()
    }

    /// Shows a command.
    pub(crate) fn show(&self, screen: &Screen, pod: &Pod, command: &PodCommand) {
        screen.command(pod.name(), &as_typed(&command.words(), self.net.dir()));
    }

    /// Whose address it is.
    pub(crate) fn name_of(&self, address: SocketAddr) -> String {
        let pods = [&self.control, &self.front, &self.web, &self.db, &self.intruder];
        let pod = pods.into_iter().find(|pod| pod.addresses().contains(&address.ip()));
        pod.map_or_else(|| address.to_string(), |pod| format!("{}:{}", pod.name(), address.port()))
    }
}

impl Secrets {
    /// What would give a conversation away, and whose words it is.
    pub(crate) fn plaintexts(&self) -> [(&'static str, &str); 4] {
        [
            ("curl's request", "GET /letter HTTP/1.1"),
            ("nginx's answer", &self.letter),
            ("psql's query", "select note from notes"),
            ("PostgreSQL's answer", &self.note),
        ]
    }
}

fn random() -> String {
    let uuid = fs::read_to_string("/proc/sys/kernel/random/uuid").expect("the kernel is random");
    uuid.trim().get(..18).expect("a UUID").to_owned()
}
