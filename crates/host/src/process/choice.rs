//! What holds the processes of a boundary together on this host. It is chosen here and nowhere else, once for an agent.
//!
//! Strongest first:
//!
//! 1. a transient systemd unit (a scope) for each boundary, where systemd runs and hands one out: its processes do not
//!    belong to the agent's own unit, and its control groups are left to the shim (`Delegate=yes`);
//! 2. control groups below the agent's own, v2 or v1, where they can be made;
//! 3. the shim as subreaper, and the marker in the environment. Both hold in the other two cases as well.
//!
//! Units are asked for by the program `systemd-run`, which comes with systemd: it speaks D-Bus to the manager, puts itself
//! into the new unit and becomes the shim. A D-Bus library would be the heaviest dependency of this crate for one call.

mod systemd;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::cgroup::Cgroups;
pub(crate) use systemd::{Systemd, unit_name};

/// How long a manager may take to hand out a unit for a trial. One that is slower would delay every start.
const TRIAL_LIMIT: Duration = Duration::from_secs(10);

/// What holds the processes of a boundary together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BoundaryKind {
    /// A transient systemd unit for each boundary.
    Systemd,
    /// Control groups below the agent's own.
    Cgroup,
    /// The shim as subreaper, and the marker in the environment.
    Marker,
}

impl BoundaryKind {
    /// Its name, as the configuration spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Systemd => "systemd",
            Self::Cgroup => "cgroup",
            Self::Marker => "marker",
        }
    }
}

impl fmt::Display for BoundaryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for BoundaryKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Systemd, Self::Cgroup, Self::Marker]
            .into_iter()
            .find(|kind| kind.name() == text)
            .ok_or_else(|| format!("`{text}` holds no boundary together; accepted: systemd, cgroup, marker"))
    }
}

/// The choice of an agent, and why it fell so. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Boundaries {
    pub(crate) held: Held,
    why: String,
}

/// The choice, with what it needs.
#[derive(Clone, Debug)]
pub(crate) enum Held {
    Systemd(Systemd),
    Cgroup,
    Marker,
}

impl Default for Boundaries {
    /// Control groups as far as they can be made, without a look.
    fn default() -> Self {
        Self { held: Held::Cgroup, why: "nothing was looked at".to_owned() }
    }
}

impl Boundaries {
    /// Looks at the host and takes the strongest that works, or of those below `at_most` the strongest. Each is tried, not
    /// believed: a unit is asked for, a control group is made. Takes up to ten seconds where systemd does not answer.
    pub fn choose(at_most: Option<BoundaryKind>) -> Self {
        let at_most = at_most.unwrap_or(BoundaryKind::Systemd);
        decide(at_most, || Systemd::find()?.proven(TRIAL_LIMIT), Cgroups::tried)
    }

    /// What was chosen.
    pub fn kind(&self) -> BoundaryKind {
        match self.held {
            Held::Systemd(_) => BoundaryKind::Systemd,
            Held::Cgroup => BoundaryKind::Cgroup,
            Held::Marker => BoundaryKind::Marker,
        }
    }

    /// The choice in words: `a transient systemd unit for each run`.
    pub fn words(&self) -> &'static str {
        match &self.held {
            Held::Systemd(systemd) if systemd.of_user() => "a transient unit of the user's systemd for each run",
            Held::Systemd(_) => "a transient systemd unit for each run",
            Held::Cgroup => "control groups for each run",
            Held::Marker => "subreaper and marker",
        }
    }

    /// Why it fell so, and what stood against anything stronger.
    pub fn why(&self) -> &str {
        &self.why
    }
}

/// The decision; what it needs to know of the host is asked only when it matters. `Ok` says what was found, `Err` what stands
/// against it.
fn decide(
    at_most: BoundaryKind,
    systemd: impl FnOnce() -> Result<Systemd, String>,
    cgroups: impl FnOnce() -> Result<String, String>,
) -> Boundaries {
    let mut against = Vec::new();
    let mut left_out = |kind: BoundaryKind| against.push(format!("no {kind}: the configuration leaves it out"));
    match at_most {
        BoundaryKind::Systemd => {}
        BoundaryKind::Cgroup => left_out(BoundaryKind::Systemd),
        BoundaryKind::Marker => [BoundaryKind::Systemd, BoundaryKind::Cgroup].into_iter().for_each(left_out),
    }
    let reason =
        |found: String, against: Vec<String>| against.into_iter().chain([found]).collect::<Vec<_>>().join("; ");
    if at_most == BoundaryKind::Systemd {
        match systemd() {
            Ok(systemd) => {
                let why = systemd.words();
                return Boundaries { held: Held::Systemd(systemd), why };
            }
            Err(problem) => against.push(format!("no systemd: {problem}")),
        }
    }
    if at_most != BoundaryKind::Marker {
        match cgroups() {
            Ok(found) => return Boundaries { held: Held::Cgroup, why: reason(format!("made here: {found}"), against) },
            Err(problem) => against.push(format!("no cgroup: {problem}")),
        }
    }
    Boundaries { held: Held::Marker, why: reason("always at hand".to_owned(), against) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cgroups() -> Result<String, String> {
        Ok("cgroup v2, memory".to_owned())
    }

    #[test]
    fn the_strongest_that_works_is_taken_and_what_stood_against_the_others_is_said() {
        let none = || Err("it does not run here".to_owned());
        let unit = || Ok(Systemd::of("/usr/bin/systemd-run", false));
        assert_eq!(decide(BoundaryKind::Systemd, unit, cgroups).kind(), BoundaryKind::Systemd);

        let choice = decide(BoundaryKind::Systemd, none, cgroups);
        assert_eq!(choice.kind(), BoundaryKind::Cgroup);
        assert_eq!(choice.why(), "no systemd: it does not run here; made here: cgroup v2, memory");

        let choice = decide(BoundaryKind::Systemd, none, || Err("read-only".to_owned()));
        assert_eq!(choice.kind(), BoundaryKind::Marker);
        assert_eq!(choice.why(), "no systemd: it does not run here; no cgroup: read-only; always at hand");
    }

    #[test]
    fn nothing_stronger_than_wanted_is_taken_or_even_looked_at() {
        let never = || -> Result<Systemd, String> { panic!("nobody asked for it") };
        let choice = decide(BoundaryKind::Cgroup, never, cgroups);
        assert_eq!(choice.kind(), BoundaryKind::Cgroup);
        assert!(choice.why().contains("no systemd: the configuration leaves it out"), "{}", choice.why());
        let choice = decide(BoundaryKind::Marker, never, || panic!("nor for that"));
        assert_eq!(choice.kind(), BoundaryKind::Marker);
        assert!(choice.why().contains("no cgroup: the configuration leaves it out"), "{}", choice.why());
    }

    #[test]
    fn a_kind_is_read_by_its_name_and_another_word_is_told_the_names() {
        for kind in [BoundaryKind::Systemd, BoundaryKind::Cgroup, BoundaryKind::Marker] {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        let error = "docker".parse::<BoundaryKind>().expect_err("no kind");
        assert_eq!(error, "`docker` holds no boundary together; accepted: systemd, cgroup, marker");
    }
}
