//! A scenario: one file of tests/vm/scenarios, and what its header asks for.

use std::fs;
use std::path::Path;

/// Lines `#@ key: words` at the head of the file; tests/vm/README.md lists them.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: String,
    pub(crate) kernels: Vec<String>,
    /// Added to the kernel's command line, after what every guest has.
    pub(crate) append: Vec<String>,
    /// MiB.
    pub(crate) memory: u32,
    /// Seconds for each boot of it.
    pub(crate) limit: u64,
    pub(crate) modules: Vec<String>,
    /// Sizes of the blank disks, as truncate(1) reads them.
    pub(crate) disks: Vec<String>,
    pub(crate) tools: Vec<String>,
    /// Kernels on which it runs in `make test-long` and by name only: it is about time, or takes much of
    /// it, or shows nothing there that the other kernel does not.
    pub(crate) long: Vec<String>,
    /// Phases; between two of them the guest goes down.
    pub(crate) boots: u32,
}

impl Scenario {
    pub(crate) fn all(directory: &Path) -> Result<Vec<Scenario>, String> {
        let entries =
            fs::read_dir(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "sh"));
        paths.sort();
        paths
            .iter()
            .map(|path| {
                let name = path.file_stem().unwrap_or_default().to_string_lossy();
                let text = fs::read_to_string(path)
                    .map_err(|error| format!("{}: {error}", path.display()))?;
                Scenario::parse(&name, &text)
                    .map_err(|error| format!("{}: {error}", path.display()))
            })
            .collect()
    }

    fn parse(name: &str, text: &str) -> Result<Scenario, String> {
        let mut scenario = Scenario {
            name: name.to_owned(),
            kernels: vec!["6.12".into(), "6.1".into()],
            append: Vec::new(),
            memory: 1024,
            limit: 60,
            modules: Vec::new(),
            disks: Vec::new(),
            tools: Vec::new(),
            long: Vec::new(),
            boots: 1,
        };
        for line in text.lines().filter_map(|line| line.strip_prefix("#@")) {
            let (key, value) =
                line.split_once(':').ok_or_else(|| format!("no colon in `#@{line}`"))?;
            let words: Vec<String> = value.split_whitespace().map(str::to_owned).collect();
            let number = || value.trim().parse().map_err(|_| format!("no number in `#@{line}`"));
            match key.trim() {
                "kernels" => scenario.kernels = words,
                "append" => scenario.append = words,
                "memory" => scenario.memory = number()?,
                "limit" => scenario.limit = number()?.into(),
                "modules" => scenario.modules = words,
                "disks" => scenario.disks = words,
                "tools" => scenario.tools = words,
                "long" => scenario.long = words,
                "boots" => scenario.boots = number()?,
                other => return Err(format!("unknown key `{other}`")),
            }
        }
        Ok(scenario)
    }

    /// Whether both may run in one boot, one after the other.
    pub(crate) fn fits(&self, other: &Scenario) -> bool {
        self.append == other.append && self.boots == 1 && other.boots == 1
    }
}
