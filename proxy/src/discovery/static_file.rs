use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use kith_identity::TrustDomain;
use kith_mesh::{MeshFile, MeshFileError, SelfError};
use kith_runtime::readiness::Gate;
use tokio::{
    sync::watch,
    time::{interval, sleep},
};
use tracing::{info, warn};

use super::{Discovery, View};
use crate::{metrics::Metrics, transport::addrs::OwnAddresses};

/// How often the file is looked at. A look is one stat call.
const LOOK: Duration = Duration::from_millis(500);
/// How long a changed file must stay as it is: the beginning of one that is still being written may be a whole mesh file,
/// with fewer rules.
const SETTLED: Duration = Duration::from_millis(50);
/// How often the file is read although it looks the same: a clock may be too coarse to show a change.
const READ_ANYWAY: u64 = 20;

/// The mesh file, read again whenever it changes. The last good one stays until a better one is there.
#[derive(Debug)]
pub struct StaticFile {
    path: PathBuf,
    trust_domain: TrustDomain,
    own: OwnAddresses,
    views: watch::Sender<Option<Arc<View>>>,
    metrics: Metrics,
    gate: Gate,
    seen: Option<Look>,
    text: Option<String>,
    complaint: Option<String>,
}

/// Why a mesh file is not in force.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileState {
    /// It can't be read.
    #[error("the mesh file {} can't be read: {source}; put it there, it is looked for all the time", path.display())]
    Unreadable {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is wrong.
    #[error("the mesh file {} is wrong: {source}", path.display())]
    Wrong {
        /// Its path.
        path: PathBuf,
        /// Where and what.
        source: Box<MeshFileError>,
    },
    /// It is another mesh's.
    #[error("the mesh file is for trust domain {theirs}, and --trust-domain (KITH_TRUST_DOMAIN) is {ours}")]
    TrustDomain {
        /// The file's.
        theirs: TrustDomain,
        /// This sidecar's.
        ours: TrustDomain,
    },
    /// It does not list this pod, or lists it twice.
    #[error("{0}")]
    NotMe(#[from] SelfError),
}

impl FileState {
    /// Whether the file fails to state the mesh networks.
    #[must_use]
    pub fn is_about_mesh_networks(&self) -> bool {
        matches!(self, Self::Wrong { source, .. } if source.field.starts_with("mesh_networks"))
    }

    /// The stable label.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "unreadable",
            Self::Wrong { source, .. } => source.as_str(),
            Self::TrustDomain { .. } => "trust_domain",
            Self::NotMe(error) => error.as_str(),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Look {
    modified: (i64, i64),
    inode: u64,
    size: u64,
}

impl StaticFile {
    /// Prepares to read the file; [`Self::keep_current`] does.
    #[must_use]
    pub fn new(
        path: PathBuf,
        trust_domain: TrustDomain,
        own: OwnAddresses,
        metrics: Metrics,
        gate: Gate,
    ) -> (Self, Discovery) {
        let (views, reader) = watch::channel(None);
        let file = Self { path, trust_domain, own, views, metrics, gate, seen: None, text: None, complaint: None };
        (file, Discovery(reader))
    }

    /// The first reading; at start, before anything waits for it.
    ///
    /// # Errors
    /// As [`FileState`] says; nothing is lost, it is read again.
    pub fn read_first(&mut self) -> Result<(), FileState> {
        self.seen = look(&self.path).ok();
        let read = self.read();
        self.tell(read.as_ref());
        read.map(|_| ())
    }

    /// Reads the file whenever it changes, for ever.
    pub async fn keep_current(mut self) {
        let mut ticks = interval(LOOK);
        for looks in 1_u64.. {
            ticks.tick().await;
            let fresh = look(&self.path).ok();
            if fresh == self.seen && !looks.is_multiple_of(READ_ANYWAY) {
                continue;
            }
            sleep(SETTLED).await;
            if look(&self.path).ok() != fresh {
                continue;
            }
            self.seen = fresh;
            let read = self.read();
            self.tell(read.as_ref());
        }
    }

    /// Whether something new is in force now.
    fn read(&mut self) -> Result<bool, FileState> {
        let text = fs::read_to_string(&self.path)
            .map_err(|source| FileState::Unreadable { path: self.path.clone(), source })?;
        // A pod that gets its addresses late finds itself in a file that has not changed.
        let readdressed = self.own.refresh();
        if self.text.as_ref() == Some(&text) && !readdressed {
            return Ok(false);
        }
        let view = self.view(&text)?;
        self.text = Some(text);
        self.views.send_replace(Some(Arc::new(view)));
        Ok(true)
    }

    fn view(&self, text: &str) -> Result<View, FileState> {
        let wrong = |source| FileState::Wrong { path: self.path.clone(), source: Box::new(source) };
        let mesh = MeshFile::parse(text).map_err(wrong)?;
        mesh.check_served().map_err(wrong)?;
        if *mesh.trust_domain() != self.trust_domain {
            let (theirs, ours) = (mesh.trust_domain().clone(), self.trust_domain.clone());
            return Err(FileState::TrustDomain { theirs, ours });
        }
        let me = Arc::clone(mesh.workload_at(&self.own.list())?);
        Ok(View { mesh, me })
    }

    fn tell(&mut self, read: Result<&bool, &FileState>) {
        match read {
            Ok(false) => {}
            Ok(true) => {
                self.complaint = None;
                self.metrics.mesh_file_loads.with(["loaded"]).inc();
                self.gate.ready();
                info!(path = %self.path.display(), "The mesh file is in force");
            }
            Err(error) => self.complain(error),
        }
    }

    /// Once for each new complaint: the file is read again and again.
    fn complain(&mut self, error: &FileState) {
        let complaint = error.to_string();
        if self.complaint.as_ref() == Some(&complaint) {
            return;
        }
        self.metrics.mesh_file_loads.with([error.as_str()]).inc();
        if self.views.borrow().is_some() {
            warn!(%error, "The mesh file changed for the worse; the last good one stays in force");
        } else {
            self.gate.not_ready(complaint.clone());
            warn!(%error, "There is no mesh file to follow yet");
        }
        self.complaint = Some(complaint);
    }
}

fn look(path: &Path) -> io::Result<Look> {
    let metadata = fs::metadata(path)?;
    Ok(Look { modified: (metadata.mtime(), metadata.mtime_nsec()), inode: metadata.ino(), size: metadata.size() })
}

#[cfg(test)]
mod tests {
    use kith_runtime::{metrics::Registry, readiness::Readiness};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_beginning_of_a_file_that_is_being_written_is_not_taken_for_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mesh.yaml");
        let metrics = Metrics::register(&mut Registry::new());
        let (own, gate) = (OwnAddresses::default(), Readiness::new().gate("mesh", "not read yet"));
        let (mut file, _discovery) =
            StaticFile::new(path.clone(), "example.org".parse().unwrap(), own, metrics.clone(), gate);
        assert_eq!(file.read_first().unwrap_err().as_str(), "unreadable");
        let following = tokio::spawn(file.keep_current());

        // Each would be told by a complaint of its own.
        let beginning = "trust_domain: elsewhere.example\nmesh_networks: [10.88.0.0/16]\n";
        sleep(LOOK - SETTLED / 2).await;
        fs::write(&path, beginning).unwrap();
        sleep(SETTLED).await;
        fs::write(&path, format!("{beginning}worklods: []\n")).unwrap();
        sleep(LOOK * 3).await;
        following.abort();
        let loads = |label| metrics.mesh_file_loads.with([label]).get();
        assert_eq!((loads("trust_domain"), loads("syntax")), (0, 1));
    }
}
