//! Where settings come from, and how they are printed.

use super::{Config, Cpus, LogLevel};
use crate::cli::server::ServerArguments;
use anyhow::{Context, Result, bail};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::str::FromStr;

/// All settings with their documentation and their defaults.
const TEMPLATE: &str = include_str!("template.toml");

impl Config {
    /// The settings that flags, environment and file make together. They are not checked yet.
    pub(crate) fn from_arguments(arguments: &ServerArguments) -> Result<Self> {
        let mut config = match &arguments.config {
            Some(path) => Self::from_file(path)?,
            None => Self::default(),
        };
        if let Some(data_dir) = &arguments.data_dir {
            config.data_dir.clone_from(data_dir);
        }
        if let Some(listen) = &arguments.listen {
            config.listen = address(listen)?;
        }
        if let Some(host) = &arguments.advertise {
            // Any port makes an address of a host.
            config.advertise = Some(address(&format!("{host}:0")).context("--advertise")?.ip());
        }
        if let Some(join) = &arguments.join {
            config.join = Some(address(join).context("--join")?);
        }
        if let Some(cores) = arguments.cores {
            if cores == 0 {
                bail!("--cores 0: a store has at least one core");
            }
            config.cores = usize::from(cores);
        }
        if let Some(cpus) = &arguments.cpus {
            config.cpus = Cpus::from_str(cpus).map_err(anyhow::Error::msg).context("--cpus")?;
        }
        if let Some(memory) = &arguments.memory {
            config.memory = memory.parse().map_err(anyhow::Error::msg).context("--memory")?;
        }
        if let Some(level) = &arguments.log_level {
            config.log_level = <LogLevel as clap::ValueEnum>::from_str(level, true)
                .map_err(anyhow::Error::msg)
                .context("--log-level")?;
        }
        Ok(config)
    }

    #[expect(clippy::disallowed_methods, reason = "no core runs yet")]
    fn from_file(path: &Path) -> Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::from_toml(&text).with_context(|| format!("{}", path.display()))
    }

    /// Demands that the settings are good; the error names all that are not.
    pub(crate) fn checked(self) -> Result<Self> {
        let problems = self.problems();
        match problems.is_empty() {
            true => Ok(self),
            false => bail!("these settings can't be used:\n  {}", problems.join("\n  ")),
        }
    }

    /// The settings as a file with documentation, to be read back.
    pub(crate) fn documented(&self) -> Result<String> {
        let values = toml::Table::try_from(self)?;
        let mut section = String::new();
        let mut text = String::new();
        for line in TEMPLATE.lines() {
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                name.clone_into(&mut section);
            }
            match line.split_once(" = ") {
                Some((key, _)) if !line.starts_with('#') => {
                    let table = match section.as_str() {
                        "" => Some(&values),
                        name => values.get(name).and_then(toml::Value::as_table),
                    };
                    let value = table
                        .and_then(|table| table.get(key))
                        .with_context(|| format!("no setting {key}"))?;
                    text.extend([key, " = ", &value.to_string(), "\n"]);
                }
                // A setting without a default stands there as a comment.
                Some((key, _)) if section.is_empty() && values.contains_key(key.trim_start_matches('#')) => {
                    let key = key.trim_start_matches('#');
                    text.extend([key, " = ", &values[key].to_string(), "\n"]);
                }
                _ => {
                    text.push_str(line);
                    text.push('\n');
                }
            }
        }
        Ok(text)
    }
}

/// The first address that a name stands for.
fn address(text: &str) -> Result<SocketAddr> {
    let mut addresses =
        text.to_socket_addrs().with_context(|| format!("{text:?} is not an address (127.0.0.1:20160)"))?;
    addresses.next().with_context(|| format!("{text:?} stands for no address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_the_default() {
        assert_eq!(Config::from_toml(TEMPLATE).unwrap(), Config::default());
    }

    #[test]
    fn what_is_printed_reads_back() {
        let config = Config {
            cores: 3,
            memory: super::super::size::Size(3 << 30),
            join: Some("192.0.2.7:20160".parse().unwrap()),
            ..Config::default()
        };
        let text = config.documented().unwrap();
        assert_eq!(Config::from_toml(&text).unwrap(), config);
        assert!(text.contains("memory = \"3G\"") && text.contains("# What is logged"));
    }

    #[test]
    fn flags_win_over_the_default() {
        let arguments = ServerArguments { cores: Some(4), memory: Some("2G".into()), ..Default::default() };
        let config = Config::from_arguments(&arguments).unwrap();
        assert_eq!((config.cores, config.memory.to_string().as_str()), (4, "2G"));
        assert!(Config::from_arguments(&ServerArguments { cores: Some(0), ..Default::default() }).is_err());
    }
}
