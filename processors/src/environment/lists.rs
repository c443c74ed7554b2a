//! The allow-lists for images, programs and outbound hosts. An absent list lets everything through.

use std::fmt;

use globset::{GlobBuilder, GlobMatcher};

use super::Environment;

/// Something that an allow-list of the configuration does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    what: String,
    key: &'static str,
    allowed: Vec<String>,
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} is not allowed here; accepted: {} (`{}` in the agent's configuration)",
            self.what,
            self.allowed.join(", "),
            self.key
        )
    }
}

impl std::error::Error for Denied {}

impl Environment {
    /// Checks an image reference against `[docker] allowed_images`.
    ///
    /// # Errors
    /// It is not on the list.
    pub fn allow_image(&self, image: &str) -> Result<(), Denied> {
        let name = image.split('@').next().unwrap_or(image);
        let untagged = match name.rsplit_once(':') {
            Some((before, tag)) if !tag.contains('/') => before,
            _ => name,
        };
        self.check(
            self.allowed_images.as_deref(),
            &[image, untagged],
            format!("the image `{image}`"),
            "[docker] allowed_images",
        )
    }

    /// Checks a program by its path against `[programs] allowed`. A name without `/` is looked up in `PATH` first.
    ///
    /// # Errors
    /// It is not on the list.
    pub fn allow_program(&self, program: &str) -> Result<(), Denied> {
        let found = if program.contains('/') {
            program.to_owned()
        } else {
            in_path(program).unwrap_or_else(|| program.to_owned())
        };
        self.check(self.allowed_programs.as_deref(), &[&found], format!("the program `{found}`"), "[programs] allowed")
    }

    /// Checks a URL's host against `[outbound] allowed_hosts`.
    ///
    /// # Errors
    /// It is not on the list, or the text is no URL with a host.
    pub fn allow_url(&self, url: &str) -> Result<(), Denied> {
        let host = url::Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default();
        // The rest of the address may be a secret.
        let what = format!("the host `{host}`");
        self.check(self.allowed_hosts.as_deref(), &[&host], what, "[outbound] allowed_hosts")
    }

    fn check(
        &self,
        list: Option<&[String]>,
        spellings: &[&str],
        what: String,
        key: &'static str,
    ) -> Result<(), Denied> {
        let Some(list) = list else { return Ok(()) };
        let hit = list.iter().any(|pattern| spellings.iter().any(|text| matches(pattern, text)));
        if hit { Ok(()) } else { Err(Denied { what, key, allowed: list.to_vec() }) }
    }
}

fn matches(pattern: &str, text: &str) -> bool {
    pattern == text || glob(pattern).is_some_and(|glob| glob.is_match(text))
}

fn glob(pattern: &str) -> Option<GlobMatcher> {
    GlobBuilder::new(pattern).literal_separator(false).build().ok().map(|glob| glob.compile_matcher())
}

fn in_path(program: &str) -> Option<String> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
        .map(|file| file.display().to_string())
}

#[cfg(test)]
mod tests {
    use crate::testing::environment;

    #[test]
    fn an_absent_list_allows_everything_and_a_list_refuses_the_rest_by_its_key() {
        let dir = tempfile::tempdir().expect("dir");
        let mut env = environment(dir.path());
        assert!(
            env.allow_image("any:1").is_ok()
                && env.allow_program("/bin/x").is_ok()
                && env.allow_url("http://h/").is_ok()
        );
        env.allowed_images = Some(vec!["registry/llm/*".into(), "busybox".into()]);
        env.allowed_programs = Some(vec!["/bin/bash".into()]);
        env.allowed_hosts = Some(vec!["platform.local".into(), "*.feishu.cn".into()]);
        assert!(env.allow_image("registry/llm/a/b:1.0").is_ok() && env.allow_image("busybox:1.36").is_ok());
        let error = env.allow_image("evil/x@sha256:00").expect_err("denied").to_string();
        assert!(error.contains("[docker] allowed_images") && error.contains("registry/llm/*"), "{error}");
        assert!(env.allow_program("/bin/bash").is_ok());
        assert!(env.allow_program("/tmp/bash").expect_err("denied").to_string().contains("[programs] allowed"));
        assert!(
            env.allow_url("https://open.feishu.cn/hook/x").is_ok() && env.allow_url("http://platform.local:1/").is_ok()
        );
        let error = env.allow_url("http://evil.local/hook/s3cr3t").expect_err("denied").to_string();
        assert!(error.contains("[outbound] allowed_hosts") && !error.contains("s3cr3t"), "{error}");
    }
}
