use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use kith_identity::{IdPattern, SpiffeId, TrustDomain};
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::{
    MeshFileError, NonEmpty, Problem, WorkloadEntry,
    names::Names,
    scalars::{Alpn, Name, Port},
};
use crate::{Action, Layer, Mode, Policy, PortSettings, Rule, Source};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PolicyEntry {
    name: Spanned<Name>,
    #[serde(default)]
    order: i32,
    layer: LayerEntry,
    mode: Option<Spanned<ModeName>>,
    #[serde(default)]
    ports: BTreeMap<Port, Spanned<PortEntry>>,
    #[serde(default)]
    rules: Vec<RuleEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum LayerEntry {
    Mesh,
    Namespace(Spanned<Name>),
    Workloads(NonEmpty<Spanned<Name>>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum ModeName {
    Strict,
    Permissive,
    Disable,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PortEntry {
    mode: Option<ModeName>,
    #[serde(default)]
    foreign_mtls: bool,
    alpn: Option<Vec<Alpn>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleEntry {
    name: Spanned<Name>,
    action: ActionName,
    ports: Option<NonEmpty<Port>>,
    from: NonEmpty<SourceEntry>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ActionName {
    Allow,
    Deny,
    Audit,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SourceEntry {
    SpiffeId(IdPattern),
    Namespace(Name),
    ServiceAccount(ServiceAccount),
    Unauthenticated,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ServiceAccount {
    namespace: Name,
    name: Name,
}

pub(super) struct Policies {
    /// For each workload, at the place of its entry, the policies that select it.
    pub(super) selected: Vec<Vec<Arc<Policy>>>,
    /// Where PERMISSIVE is stated first.
    pub(super) permissive: Option<MeshFileError>,
}

pub(super) fn build(
    entries: Vec<PolicyEntry>,
    trust_domain: &TrustDomain,
    workloads: &[WorkloadEntry],
) -> Result<Policies, MeshFileError> {
    let index = Index::of(workloads, trust_domain);
    let mut names = Names::default();
    let mut policies = Policies { selected: vec![Vec::new(); workloads.len()], permissive: None };
    for (place, entry) in entries.into_iter().enumerate() {
        let field = format!("policies[{place}]");
        names.add(&entry.name, format!("{field}.name"))?;
        let selected = index
            .select(&entry.layer)
            .map_err(|(name, problem)| MeshFileError::at(name, format!("{field}.layer"), problem))?;
        policies.permissive = policies.permissive.or_else(|| entry.permissive(&field));
        let policy = Arc::new(entry.policy(&field)?);
        for (workload, list) in policies.selected.iter_mut().enumerate() {
            if selected.contains(&workload) {
                list.push(Arc::clone(&policy));
            }
        }
    }
    Ok(policies)
}

/// The places of workloads among their entries.
struct Index<'a> {
    all: usize,
    by_name: HashMap<&'a str, usize>,
    by_namespace: HashMap<&'a str, Vec<usize>>,
}

impl<'a> Index<'a> {
    fn of(workloads: &'a [WorkloadEntry], own: &TrustDomain) -> Self {
        let mut index = Self { all: workloads.len(), by_name: HashMap::new(), by_namespace: HashMap::new() };
        for (place, workload) in workloads.iter().enumerate() {
            index.by_name.insert(&workload.name.value.0, place);
            let id = workload.spiffe_id.as_ref().map(|id| &id.value).filter(|id| id.trust_domain() == own);
            if let Some((namespace, _)) = id.and_then(SpiffeId::namespace_and_service_account) {
                index.by_namespace.entry(namespace).or_default().push(place);
            }
        }
        index
    }

    /// A name that selects nobody is most likely misspelt, and its policy would protect nobody.
    fn select<'e>(&self, layer: &'e LayerEntry) -> Result<HashSet<usize>, (&'e Spanned<Name>, Problem)> {
        match layer {
            LayerEntry::Mesh => Ok((0..self.all).collect()),
            LayerEntry::Namespace(name) => match self.by_namespace.get(name.value.0.as_str()) {
                Some(places) => Ok(places.iter().copied().collect()),
                None => Err((name, Problem::UnknownNamespace(name.value.0.clone()))),
            },
            LayerEntry::Workloads(names) => {
                let place = |name: &'e Spanned<Name>| match self.by_name.get(name.value.0.as_str()) {
                    Some(place) => Ok(*place),
                    None => Err((name, Problem::UnknownWorkload(name.value.0.clone()))),
                };
                names.0.iter().map(place).collect()
            }
        }
    }
}

impl PolicyEntry {
    fn permissive(&self, field: &str) -> Option<MeshFileError> {
        let for_all = self.mode.as_ref().filter(|mode| mode.value == ModeName::Permissive);
        let for_all =
            for_all.map(|mode| MeshFileError::at(mode, format!("{field}.mode"), Problem::PermissiveNotServed));
        let mut ports = self.ports.iter().filter(|(_, entry)| entry.value.mode == Some(ModeName::Permissive));
        for_all.or_else(|| {
            let (port, entry) = ports.next()?;
            let field = format!("{field}.ports.{}.mode", port.0);
            Some(MeshFileError::at(entry, field, Problem::PermissiveNotServed))
        })
    }

    fn policy(self, field: &str) -> Result<Policy, MeshFileError> {
        let mut ports = BTreeMap::new();
        for (port, entry) in &self.ports {
            if entry.value.foreign_mtls && entry.value.mode != Some(ModeName::Permissive) {
                let field = format!("{field}.ports.{}.foreign_mtls", port.0);
                return Err(MeshFileError::at(entry, field, Problem::ForeignMtlsWithoutPermissive));
            }
            ports.insert(port.0, entry.value.settings());
        }
        let mut names = Names::default();
        let mut rules = Vec::new();
        for (place, rule) in self.rules.into_iter().enumerate() {
            names.add(&rule.name, format!("{field}.rules[{place}].name"))?;
            rules.push(rule.rule(&self.name.value.0));
        }
        let layer = match self.layer {
            LayerEntry::Mesh => Layer::Mesh,
            LayerEntry::Namespace(_) => Layer::Namespace,
            LayerEntry::Workloads(_) => Layer::Workload,
        };
        let mode = self.mode.map(|mode| mode.value.mode(false));
        Ok(Policy { name: self.name.value.0, order: self.order, layer, mode, ports, rules })
    }
}

impl ModeName {
    fn mode(self, foreign_mtls: bool) -> Mode {
        match self {
            Self::Strict => Mode::Strict,
            Self::Permissive => Mode::Permissive { foreign_mtls },
            Self::Disable => Mode::Disable,
        }
    }
}

impl PortEntry {
    fn settings(&self) -> PortSettings {
        let ids = |list: &Vec<Alpn>| list.iter().map(|id| id.0.clone()).collect();
        PortSettings { mode: self.mode.map(|mode| mode.mode(self.foreign_mtls)), alpn: self.alpn.as_ref().map(ids) }
    }
}

impl RuleEntry {
    fn rule(self, policy: &str) -> Rule {
        Rule {
            name: format!("{policy}/{}", self.name.value.0).into(),
            action: match self.action {
                ActionName::Allow => Action::Allow,
                ActionName::Deny => Action::Deny,
                ActionName::Audit => Action::Audit,
            },
            ports: self.ports.map(|ports| ports.0.into_iter().map(|port| port.0).collect()),
            from: self.from.0.into_iter().map(SourceEntry::source).collect(),
        }
    }
}

impl SourceEntry {
    fn source(self) -> Source {
        match self {
            Self::SpiffeId(pattern) => Source::SpiffeId(pattern),
            Self::Namespace(Name(namespace)) => Source::Namespace(namespace),
            Self::ServiceAccount(account) => {
                Source::ServiceAccount { namespace: account.namespace.0, name: account.name.0 }
            }
            Self::Unauthenticated => Source::Unauthenticated,
        }
    }
}
