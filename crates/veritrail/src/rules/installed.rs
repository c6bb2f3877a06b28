//! The agent's rules in the kernel, under a key of their own.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use host::audit::{Control, Error};
use policy::audit::{Context as _, List, Rule};

use super::meant::Meant;
use super::plan::{self, Planned, Way, is_ours};
use super::{Here, RulesFile, Trust, clock, in_directory};

/// What was done to a rule, or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) state: State,
    /// In auditctl's words, as it is written; empty where no rule is meant.
    pub(crate) rule: String,
    /// Where it is written; empty for a rule that no file has.
    pub(crate) place: String,
    pub(crate) reason: Option<String>,
}

/// How a rule is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It is in the kernel.
    Installed,
    /// The same, left there by an agent that was killed.
    TakenOver,
    /// The engine evaluates it.
    Engine,
    /// It is not in the kernel any more.
    Removed,
    /// It is nowhere.
    Refused,
}

impl State {
    pub(crate) fn word(self) -> &'static str {
        match self {
            State::Installed => "installed",
            State::TakenOver => "taken-over",
            State::Engine => "engine",
            State::Removed => "removed",
            State::Refused => "refused",
        }
    }
}

/// The rules of the kernel.
struct Listed {
    /// With our mark, and as the kernel has them.
    ours: Vec<(Rule, Vec<u8>)>,
    others: Vec<Rule>,
}

/// The agent's rules.
pub(crate) struct Installed {
    key: String,
    directory: PathBuf,
    control: Option<Control>,
    /// Why there is none.
    lacking: String,
    here: Option<Here>,
    planned: Vec<Planned>,
    /// This program.
    exe: Option<Vec<u8>>,
    /// What was brought into the kernel and is to be there.
    brought: Vec<Rule>,
    /// Rules of ours in the kernel.
    in_kernel: usize,
    /// What was brought there and is not any more.
    gone: Vec<Rule>,
    /// With all that are for the clock's calls.
    sees_clock: bool,
    /// They were loaded by this process, and not by one before it.
    loaded: bool,
}

impl Installed {
    /// Opens the way to the kernel, and changes nothing.
    pub(crate) fn open(directory: &Path, key: &str) -> Installed {
        let (control, lacking) = match Control::open() {
            Ok(control) => (Some(control), String::new()),
            Err(error) => (None, error.to_string()),
        };
        // Of one that was replaced the kernel would not find the file.
        let exe = std::fs::read_link("/proc/self/exe").ok();
        let exe = exe.map(|exe| exe.into_os_string().into_encoded_bytes());
        let exe = exe.filter(|exe| !exe.ends_with(b" (deleted)"));
        Installed {
            key: key.to_owned(),
            directory: directory.to_owned(),
            control,
            lacking,
            here: Here::find().ok(),
            planned: Vec::new(),
            exe,
            brought: Vec::new(),
            in_kernel: 0,
            gone: Vec::new(),
            sees_clock: false,
            loaded: false,
        }
    }

    /// How many rules of ours the kernel has.
    pub(crate) fn in_kernel(&self) -> usize {
        self.in_kernel
    }

    /// Whether auditing is on; and why that is not known.
    pub(crate) fn is_auditing(&mut self) -> Result<bool, String> {
        let status = self.with(Control::status).map_err(|refusal| refusal.to_string())?;
        Ok(status.is_on())
    }

    /// Whether all rules for the clock's calls are in the kernel that are meant to be, when this was last
    /// looked at.
    pub(crate) fn sees_clock(&self) -> bool {
        self.sees_clock
    }

    /// Whether a rule, as a change has it, is one for the clock's calls.
    pub(crate) fn is_for_clock(&self, text: &str) -> bool {
        let is_it = |one: &Planned| matches!(one.way, Way::Sight(_)) && one.text == text;
        self.planned.iter().any(is_it)
    }

    /// What is planned for every line of the files.
    pub(crate) fn planned(&self) -> &[Planned] {
        &self.planned
    }

    /// Reads the files, and has the kernel follow them from now on and nothing that an agent with
    /// this key left there. No rule is to be about the processes `own`. With `clock` the kernel is also
    /// to tell of every change of the clock.
    pub(crate) fn load(&mut self, own: &[u32], clock: bool) -> Vec<Change> {
        let mut changes = Vec::new();
        self.planned = self.read(&mut changes);
        if let Some(here) = self.here.filter(|_| clock) {
            self.planned.extend(clock::planned(&here, &self.key));
        }
        for planned in &self.planned {
            if let Way::Refused(reason) = &planned.way {
                changes.push(planned.change(State::Refused, Some(reason.clone())));
            }
        }
        let wanted = self.planned.iter().any(|planned| planned.way.in_kernel().is_some());
        let Listed { ours, others } = match self.listed() {
            Ok(listed) => listed,
            Err(why) => {
                let lacking = self.planned.iter().filter(|one| one.way.in_kernel().is_some());
                changes.extend(lacking.map(|one| one.change(State::Refused, Some(why.clone()))));
                (self.in_kernel, self.sees_clock) = (0, false);
                self.brought.clear();
                self.gone.clear();
                return changes;
            }
        };
        let any = wanted || others.iter().any(|rule| rule.list() == List::Exit);
        let key = self.key.as_bytes();
        let exe = self.exe.as_ref().filter(|_| any);
        let never = |pid: &u32| Rule::never_of(*pid, exe?).with_key(key).ok();
        let own: Vec<Rule> = own.iter().filter(|pid| **pid > 0).filter_map(never).collect();
        let order = plan::in_order(&self.planned);
        let mut desired: Vec<&Rule> = order.iter().filter_map(|one| one.way.in_kernel()).collect();
        // Rules that differ only in what no kernel knows are one to it.
        let mut known = HashSet::new();
        desired.retain(|rule| known.insert(*rule));
        desired.sort_by_key(|rule| rule.list().number());
        // The rule about our own processes is another one for each agent.
        let (about_us, left): (Vec<&Rule>, Vec<&Rule>) =
            ours.iter().map(|(rule, _)| rule).partition(|rule| is_about_a_process(rule));
        let keep = left == desired;
        let keep_own =
            about_us.len() == own.len() && about_us.iter().all(|rule| own.contains(rule));
        for (rule, wire) in &ours {
            if if is_about_a_process(rule) { keep_own } else { keep } {
                continue;
            }
            changes.push(match self.with(|control| control.delete_rule(wire)) {
                Ok(()) | Err(Refusal::Missing) => self.of_own(rule, State::Removed, None),
                Err(refusal) => self.left_behind(rule, refusal),
            });
        }
        for rule in std::mem::take(&mut self.gone) {
            changes.push(self.of_own(&rule, State::Removed, Some("somebody else did it".into())));
        }
        self.brought.clear();
        let planned = std::mem::take(&mut self.planned);
        // Whether the kernel's rule is broader than one of those that it stands for.
        let mut added: HashMap<&Rule, bool> = HashMap::new();
        for planned in &planned {
            let is_part = matches!(planned.way, Way::Kernel { whole: Some(_), .. });
            let state = match (&planned.way, planned.way.in_kernel()) {
                (_, Some(marked)) if keep => {
                    self.brought.push(marked.clone());
                    if self.loaded {
                        continue;
                    }
                    Ok(State::TakenOver)
                }
                (_, Some(marked)) => match added.get_mut(marked) {
                    Some(of_part) if is_part || *of_part => {
                        *of_part = true;
                        Ok(State::Installed)
                    }
                    Some(_) => Err("it stands twice".into()),
                    None => self.add(marked, planned.front).inspect(|_| {
                        added.insert(marked, is_part);
                    }),
                },
                (Way::Engine(_), None) => Ok(State::Engine),
                (_, None) => continue,
            };
            changes.push(match state {
                Ok(state) => planned.change(state, None),
                Err(reason) => planned.change(State::Refused, Some(reason)),
            });
        }
        self.planned = planned;
        if keep_own {
            self.brought.extend(own.iter().cloned());
        }
        for rule in own.into_iter().filter(|_| !keep_own) {
            let (state, reason) = match self.add(&rule, true) {
                Ok(state) => (state, None),
                Err(reason) => (State::Refused, Some(reason)),
            };
            changes.push(self.of_own(&rule, state, reason));
        }
        self.loaded = true;
        self.count();
        // What the kernel lists in another form than it was given would be missed for ever.
        let unlike = std::mem::take(&mut self.gone);
        self.brought.retain(|rule| !unlike.contains(rule));
        changes
    }

    /// Takes all rules with our key out of the kernel.
    pub(crate) fn remove(&mut self) -> Vec<Change> {
        let ours = match self.listed() {
            Ok(listed) => listed.ours,
            Err(_) => return Vec::new(),
        };
        let mut changes = Vec::new();
        self.brought.clear();
        for (rule, wire) in &ours {
            changes.push(match self.with(|control| control.delete_rule(wire)) {
                Ok(()) | Err(Refusal::Missing) => self.of_own(rule, State::Removed, None),
                Err(refusal) => self.left_behind(rule, refusal),
            });
        }
        self.count();
        changes
    }

    /// What the engine has to ask; none where the kernel evaluates everything, or cannot be asked.
    pub(crate) fn meant(&mut self) -> Option<Meant> {
        if !self.planned.iter().any(|planned| planned.way.is_for_engine()) {
            return None;
        }
        let wires = self.with(Control::rules).ok()?;
        let kernel: Vec<Rule> =
            wires.iter().filter_map(|wire| Rule::from_wire(wire).ok()).collect();
        Some(Meant::new(&kernel, &plan::in_order(&self.planned)))
    }

    fn read(&self, changes: &mut Vec<Change>) -> Vec<Planned> {
        let Some(here) = self.here else { return Vec::new() };
        let refused = |place: String, reason: String| Change {
            state: State::Refused,
            rule: String::new(),
            place,
            reason: Some(reason),
        };
        let files = match in_directory(&self.directory) {
            Ok(files) => files,
            Err(error) => {
                changes.push(refused(self.directory.display().to_string(), error.to_string()));
                return Vec::new();
            }
        };
        let mut planned = Vec::new();
        for path in files {
            let file = match RulesFile::read(&path, Trust::Owner) {
                Ok(file) => file,
                Err(failure) => {
                    changes.push(refused(path.display().to_string(), failure.to_string()));
                    continue;
                }
            };
            for line in file.statements(&here) {
                match line {
                    Ok(line) => {
                        let place = format!("{}:{}", file.name, line.line);
                        planned.extend(Planned::of(place, line.text, &line.statement, &self.key));
                    }
                    Err(fault) => {
                        let place = format!("{}:{}:{}", fault.file, fault.line, fault.column);
                        let hint = fault.hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
                        let mut change = refused(place, format!("{}{hint}", fault.message));
                        change.rule = fault.text;
                        changes.push(change);
                    }
                }
            }
        }
        planned
    }

    /// What the kernel has.
    fn listed(&mut self) -> Result<Listed, String> {
        let wires = self.with(Control::rules).map_err(|refusal| refusal.to_string())?;
        let (mut ours, mut others) = (Vec::new(), Vec::new());
        for wire in wires {
            // What is no rule here is nobody's of ours.
            let Ok(rule) = Rule::from_wire(&wire) else { continue };
            if is_ours(&rule, &self.key) {
                ours.push((rule, wire));
            } else {
                others.push(rule);
            }
        }
        Ok(Listed { ours, others })
    }

    /// Looks at what the kernel has of ours.
    pub(crate) fn count(&mut self) {
        let listed = self.listed();
        let is_known = listed.is_ok();
        let ours = listed.map(|listed| listed.ours).unwrap_or_default();
        let is_there = |rule: &Rule| ours.iter().any(|(own, _)| own == rule);
        let mut sights = self.planned.iter().filter_map(|planned| match &planned.way {
            Way::Sight(rule) => Some(is_there(rule)),
            _ => None,
        });
        self.sees_clock = sights.next().is_some_and(|first| first && sights.all(|other| other));
        self.gone =
            self.brought.iter().filter(|rule| is_known && !is_there(rule)).cloned().collect();
        self.in_kernel = ours.len();
    }

    /// Whether somebody has taken a rule of ours out of the kernel, when this was last looked at.
    pub(crate) fn has_lost(&self) -> bool {
        !self.gone.is_empty()
    }

    fn add(&mut self, rule: &Rule, front: bool) -> Result<State, String> {
        let wire = if front { rule.to_wire_in_front() } else { rule.to_wire() };
        match self.with(|control| control.add_rule(&wire)) {
            Ok(()) => {
                self.brought.push(rule.clone());
                Ok(State::Installed)
            }
            Err(Refusal::There) => Err("it stands twice".into()),
            Err(refusal) => Err(refusal.to_string()),
        }
    }

    fn with<T>(
        &mut self,
        ask: impl FnOnce(&mut Control) -> Result<T, Error>,
    ) -> Result<T, Refusal> {
        let Some(control) = &mut self.control else {
            return Err(Refusal::Other(self.lacking.clone()));
        };
        ask(control).map_err(|error| match error {
            Error::RuleExists { .. } => Refusal::There,
            Error::NoSuchRule { .. } => Refusal::Missing,
            error => {
                let behind = std::error::Error::source(&error).map(|error| format!(": {error}"));
                Refusal::Other(format!("{error}{}", behind.unwrap_or_default()))
            }
        })
    }

    fn left_behind(&self, rule: &Rule, refusal: Refusal) -> Change {
        let reason = format!("it stays in the kernel: {refusal}");
        self.of_own(rule, State::Refused, Some(reason))
    }

    fn of_own(&self, rule: &Rule, state: State, reason: Option<String>) -> Change {
        let rule = self.here.map(|here| rule.to_text(here.machine())).unwrap_or_default();
        Change { state, rule, place: String::new(), reason }
    }
}

/// Whether it is the one about processes of ours.
fn is_about_a_process(rule: &Rule) -> bool {
    use policy::audit::{Action, Field};
    let fields: Vec<Field> = rule.conditions().iter().map(|one| one.field).collect();
    rule.action() == Action::Never && fields == [Field::Pid, Field::Exe, Field::Key]
}

/// Why the kernel did not.
enum Refusal {
    There,
    Missing,
    Other(String),
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Refusal::There => "the kernel has it",
            Refusal::Missing => "the kernel has it not",
            Refusal::Other(why) => why,
        })
    }
}

impl Planned {
    fn change(&self, state: State, reason: Option<String>) -> Change {
        Change { state, rule: self.text.trim().to_owned(), place: self.place.clone(), reason }
    }
}
