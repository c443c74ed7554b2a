//! Where an archive goes: a mounted directory, or a bucket of an object store.

use std::path::PathBuf;

use crate::{Access, Environment, ObjectStore};

/// A target as its URI says, checked against the configuration.
#[derive(Clone, Debug)]
pub(super) enum Target {
    /// A directory that this host sees.
    Mounted(PathBuf),
    /// A prefix in a bucket.
    Bucket(Bucket),
}

/// A prefix in a bucket and the store that holds it.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    /// `s3` or `minio`, as the job wrote it.
    pub(super) scheme: String,
    pub(super) name: String,
    /// Without slashes at its ends; may be empty.
    pub(super) prefix: String,
    /// Its key in `[object_stores]`.
    pub(super) key: String,
    pub(super) store: ObjectStore,
}

const ACCEPTED: &str = "/mounted/path, file:///path, s3://bucket/prefix or minio://bucket/prefix";

/// Reads a target. `uploader` is `uploaderType`, `store_key` is `objectStoreKey`.
pub(super) fn parse(
    text: &str,
    uploader: Option<&str>,
    store_key: Option<&str>,
    env: &Environment,
) -> Result<Target, String> {
    let text = text.trim();
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (scheme, rest),
        None if text.starts_with('/') => ("file", text),
        None => return Err(format!("found {text:?}; accepted: {ACCEPTED}")),
    };
    let fitting: &[&str] = match scheme {
        "file" => &["nfs"],
        "s3" | "minio" => &["s3", "minio"],
        "scp" => return Err("is not served yet: this version uploads to mounted directories and S3, not by scp; mount the target or use s3://".into()),
        other => return Err(format!("found the scheme {other:?}; accepted: {ACCEPTED}")),
    };
    if let Some(uploader) = uploader.filter(|uploader| !fitting.contains(uploader)) {
        return Err(format!(
            "is {text:?}, which does not fit to uploaderType {uploader:?}; accepted with it: {}",
            example(uploader)
        ));
    }
    if scheme == "file" {
        // Written with or without the empty host: file:///path, file:/path is not a URI that anybody writes.
        let path = PathBuf::from(rest);
        return env.allow_path(&path, Access::Write).map(Target::Mounted).map_err(|denied| denied.to_string());
    }
    let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if name.is_empty() {
        return Err(format!("found {text:?}, which names no bucket; accepted: {ACCEPTED}"));
    }
    let prefix = prefix.trim_matches('/');
    if prefix.split('/').any(|part| part == "." || part == "..") {
        return Err(format!("found {text:?}; accepted: a prefix without `.` and `..`"));
    }
    let (key, store) = store(name, store_key, env)?;
    Ok(Target::Bucket(Bucket {
        scheme: scheme.to_owned(),
        name: name.to_owned(),
        prefix: prefix.to_owned(),
        key,
        store,
    }))
}

fn example(uploader: &str) -> &'static str {
    match uploader {
        "nfs" => "/mounted/path or file:///path",
        _ => "s3://bucket/prefix or minio://bucket/prefix",
    }
}

/// The store of a bucket: the named one, else the one that lists the bucket, else the only one.
fn store(bucket: &str, key: Option<&str>, env: &Environment) -> Result<(String, ObjectStore), String> {
    let known = || match env.object_stores.keys().map(String::as_str).collect::<Vec<_>>().join(", ") {
        none if none.is_empty() => "none; add [object_stores.<key>] to the agent's configuration".to_owned(),
        keys => keys,
    };
    if let Some(key) = key {
        let store = env
            .object_stores
            .get(key)
            .ok_or_else(|| format!("objectStoreKey is {key:?}; configured object stores: {}", known()))?;
        return Ok((key.to_owned(), store.clone()));
    }
    let naming: Vec<_> =
        env.object_stores.iter().filter(|(_, store)| store.buckets.iter().any(|b| b == bucket)).collect();
    let found = match (naming.as_slice(), env.object_stores.len()) {
        ([one], _) => *one,
        ([], 1) => env.object_stores.iter().next().expect("there is one"),
        ([], _) => {
            return Err(format!(
                "no object store names the bucket `{bucket}`; give objectStoreKey, or list the bucket under `buckets` of one of: {}",
                known()
            ));
        }
        (several, _) => {
            let keys: Vec<_> = several.iter().map(|(key, _)| key.as_str()).collect();
            return Err(format!(
                "several object stores name the bucket `{bucket}`: {}; give objectStoreKey",
                keys.join(", ")
            ));
        }
    };
    Ok((found.0.clone(), found.1.clone()))
}

impl Target {
    /// The target one or more directories below.
    pub(super) fn join(&self, below: &str) -> Self {
        match self {
            Self::Mounted(dir) => Self::Mounted(dir.join(below)),
            Self::Bucket(bucket) => Self::Bucket(Bucket { prefix: bucket.object(below), ..bucket.clone() }),
        }
    }

    /// The address of a file of this name: a plain absolute path, or `scheme://bucket/key`.
    pub(super) fn address(&self, name: &str) -> String {
        match self {
            Self::Mounted(dir) => dir.join(name).display().to_string(),
            Self::Bucket(bucket) => format!("{}://{}/{}", bucket.scheme, bucket.name, bucket.object(name)),
        }
    }
}

impl Bucket {
    /// The key of an object below the prefix.
    pub(super) fn object(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_owned() } else { format!("{}/{name}", self.prefix) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::environment;

    fn store(buckets: &[&str]) -> ObjectStore {
        ObjectStore {
            endpoint: Some("http://127.0.0.1:9000".into()),
            region: None,
            buckets: buckets.iter().map(|b| (*b).to_owned()).collect(),
            access_key: "a".into(),
            secret_key: "s".into(),
        }
    }

    #[test]
    fn a_path_must_be_inside_the_roots_and_writable() {
        let dir = tempfile::tempdir().expect("dir");
        let env = environment(dir.path());
        let inside = dir.path().join("out");
        for text in [inside.display().to_string(), format!("file://{}", inside.display())] {
            let target = parse(&text, None, None, &env).expect(&text).join("dev/20251123");
            assert!(target.address("a.tar.gz").ends_with("/out/dev/20251123/a.tar.gz"), "{target:?}");
        }
        assert!(parse("/etc", None, None, &env).expect_err("outside").contains("[paths] allowed_roots"));
        assert!(parse("out", None, None, &env).expect_err("relative").contains("accepted"));
    }

    #[test]
    fn the_store_is_the_named_one_or_the_one_that_lists_the_bucket_or_the_only_one() {
        let dir = tempfile::tempdir().expect("dir");
        let mut env = environment(dir.path());
        let key = |text: &str, key: Option<&str>, env: &Environment| match parse(text, None, key, env) {
            Ok(Target::Bucket(bucket)) => Ok(bucket.key),
            Ok(other) => Err(format!("{other:?}")),
            Err(error) => Err(error),
        };
        assert!(key("s3://b/x", None, &env).expect_err("none").contains("[object_stores"));
        env.object_stores.insert("main".into(), store(&["b"]));
        assert_eq!(key("s3://b/x", None, &env), Ok("main".into()));
        assert_eq!(key("minio://other", None, &env), Ok("main".into()), "the only one");
        env.object_stores.insert("cold".into(), store(&["c", "both"]));
        assert_eq!(key("s3://c", None, &env), Ok("cold".into()));
        assert_eq!(key("s3://c", Some("main"), &env), Ok("main".into()), "the named one wins");
        let error = key("s3://unlisted", None, &env).expect_err("several");
        assert!(error.contains("objectStoreKey") && error.contains("cold, main"), "{error}");
        assert!(key("s3://b", Some("mian"), &env).expect_err("unknown").contains("cold, main"));
        env.object_stores.insert("more".into(), store(&["both"]));
        assert!(key("s3://both", None, &env).expect_err("two").contains("cold, more"));
        let error = key("s3://", None, &env).expect_err("no bucket");
        assert!(error.contains("names no bucket"), "{error}");
    }

    #[test]
    fn scp_is_refused_and_the_uploader_type_must_fit() {
        let dir = tempfile::tempdir().expect("dir");
        let mut env = environment(dir.path());
        env.object_stores.insert("main".into(), store(&[]));
        assert!(parse("scp://u@h/x", None, None, &env).expect_err("scp").contains("not served yet"));
        assert!(parse("ftp://h/x", None, None, &env).expect_err("ftp").contains("ftp"));
        assert!(parse("s3://b/p", Some("minio"), None, &env).is_ok());
        assert!(parse("s3://b/p", Some("nfs"), None, &env).expect_err("nfs").contains("uploaderType"));
        let inside = dir.path().join("x").display().to_string();
        assert!(parse(&inside, Some("s3"), None, &env).expect_err("s3").contains("uploaderType"));
        assert!(parse("s3://b/../x", None, None, &env).is_err());
    }
}
