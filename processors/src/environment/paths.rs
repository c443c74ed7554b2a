//! Data paths that a parameter may name.

use std::{
    fmt,
    path::{Component, Path, PathBuf},
};

use super::Environment;

/// A directory below which parameters may name paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// The directory.
    pub path: PathBuf,
    /// Nothing may be written there.
    pub read_only: bool,
}

/// What is to be done with a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It is read.
    Read,
    /// It is written or created.
    Write,
}

/// A path that the configuration does not allow, with the reason and the key that would.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathDenied {
    path: PathBuf,
    resolved: Option<PathBuf>,
    why: String,
    roots: Vec<Root>,
}

impl Root {
    /// Reads `path` or `path:ro`.
    pub fn parse(text: &str) -> Self {
        match text.strip_suffix(":ro") {
            Some(path) => Self { path: path.into(), read_only: true },
            None => Self { path: text.strip_suffix(":rw").unwrap_or(text).into(), read_only: false },
        }
    }
}

impl Environment {
    /// The path with every link resolved, if it is inside the allowed roots. What does not exist yet is resolved as far as
    /// it exists.
    ///
    /// # Errors
    /// Relative paths, paths that leave the roots (also through a link), and writing into a read-only root.
    pub fn allow_path(&self, path: &Path, access: Access) -> Result<PathBuf, PathDenied> {
        let denied = |resolved: Option<PathBuf>, why: &str| PathDenied {
            path: path.to_owned(),
            resolved: resolved.filter(|resolved| resolved != path),
            why: why.to_owned(),
            roots: self.allowed_roots.clone(),
        };
        if !path.is_absolute() {
            return Err(denied(None, "is not absolute"));
        }
        let resolved = resolve(path).map_err(|error| denied(None, &format!("cannot be resolved: {error}")))?;
        // The most specific root decides: /data:ro with /data/logs means that logs may be written.
        let root = self
            .allowed_roots
            .iter()
            .filter_map(|root| Some((resolve(&root.path).ok()?, root.read_only)))
            .filter(|(root, _)| resolved.starts_with(root))
            .max_by_key(|(root, read_only)| (root.components().count(), !read_only));
        match root {
            None => Err(denied(Some(resolved), "is outside of the allowed roots")),
            Some((_, true)) if access == Access::Write => {
                Err(denied(Some(resolved), "is in a read-only root and would be written"))
            }
            Some(_) => Ok(resolved),
        }
    }
}

impl fmt::Display for PathDenied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.path.display())?;
        if let Some(resolved) = &self.resolved {
            write!(f, " (really `{}`)", resolved.display())?;
        }
        write!(f, " {}; accepted: absolute paths inside ", self.why)?;
        if self.roots.is_empty() {
            f.write_str("no directory at all, because")?;
        }
        for (index, root) in self.roots.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            let suffix = if root.read_only { ":ro" } else { "" };
            write!(f, "{comma}{}{suffix}", root.path.display())?;
        }
        write!(f, " (`[paths] allowed_roots` in the agent's configuration)")
    }
}

impl std::error::Error for PathDenied {}

/// Resolves links and `..` as far as the path exists; the rest must be plain names.
fn resolve(path: &Path) -> std::io::Result<PathBuf> {
    let mut existing = path;
    let mut rest = Vec::new();
    loop {
        match existing.canonicalize() {
            Ok(mut resolved) => {
                resolved.extend(rest.into_iter().rev());
                return Ok(resolved);
            }
            // A link that leads nowhere yet would be followed when the path is created.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !existing.is_symlink() => {
                match (existing.components().next_back(), existing.parent()) {
                    (Some(Component::Normal(name)), Some(parent)) => {
                        rest.push(name.to_owned());
                        existing = parent;
                    }
                    _ => return Err(error),
                }
            }
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::environment;

    #[test]
    fn a_path_inside_a_root_is_allowed_whether_it_exists_or_not() {
        let dir = tempfile::tempdir().expect("dir");
        let env = environment(dir.path());
        let inside = dir.path().canonicalize().expect("dir").join("a/b");
        assert_eq!(env.allow_path(&dir.path().join("a/b"), Access::Write), Ok(inside));
        assert!(env.allow_path(Path::new("relative"), Access::Read).is_err());
    }

    #[test]
    fn links_and_dots_cannot_lead_out_and_the_message_names_roots_and_key() {
        let dir = tempfile::tempdir().expect("dir");
        let env = environment(dir.path());
        std::os::unix::fs::symlink("/etc", dir.path().join("out")).expect("link");
        std::os::unix::fs::symlink("/nowhere/yet", dir.path().join("dangling")).expect("link");
        for bad in ["out/passwd", "out", "../x", "a/../../x", "dangling", "dangling/x"] {
            let error = env.allow_path(&dir.path().join(bad), Access::Read).expect_err(bad).to_string();
            assert!(
                error.contains("[paths] allowed_roots") && error.contains(&dir.path().display().to_string()),
                "{error}"
            );
        }
    }

    #[test]
    fn a_read_only_root_is_read_only_but_for_a_deeper_root() {
        let dir = tempfile::tempdir().expect("dir");
        let mut env = environment(dir.path());
        env.allowed_roots = vec![
            Root::parse(&format!("{}:ro", dir.path().display())),
            Root { path: dir.path().join("logs"), read_only: false },
        ];
        assert!(env.allow_path(&dir.path().join("x"), Access::Read).is_ok());
        let error = env.allow_path(&dir.path().join("x"), Access::Write).expect_err("read-only").to_string();
        assert!(error.contains("read-only root"), "{error}");
        assert!(env.allow_path(&dir.path().join("logs/x"), Access::Write).is_ok());
    }
}
