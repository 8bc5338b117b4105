//! Which images may run.

use evenkeel_schema::image::ImageRef;

use super::patterns::fits;

/// Why an image must not run. A pattern that ends in a tag or a digest is held against those too, any other against
/// the repository's name alone, so that no tag can be made to fit it.
pub(super) fn violation(image: &ImageRef, allowed: Option<&[String]>) -> Option<String> {
    let allowed = allowed?;
    let fitting = allowed.iter().any(|pattern| {
        let pattern = full(pattern);
        let names = match kind(&pattern) {
            Kind::Name => vec![image.name().to_owned()],
            Kind::Tag => image
                .tag()
                .map(|tag| format!("{}:{tag}", image.name()))
                .into_iter()
                .chain([image.as_str().to_owned()])
                .collect(),
            Kind::Digest => {
                let digest = image
                    .digest()
                    .map(|digest| format!("{}@{digest}", image.name()));
                digest
                    .into_iter()
                    .chain([image.as_str().to_owned()])
                    .collect()
            }
        };
        names
            .iter()
            .any(|name| fits(&pattern, name) || fits(&pattern, &full(name)))
    });
    (!fitting).then(|| format!("`{image}` is not among the images that guard.images allows"))
}

enum Kind {
    Name,
    Tag,
    Digest,
}

fn kind(pattern: &str) -> Kind {
    if pattern.contains('@') {
        return Kind::Digest;
    }
    let last = pattern.rsplit('/').next().unwrap_or_default();
    if last.contains(':') {
        Kind::Tag
    } else {
        Kind::Name
    }
}

/// The name in full, as engines read one without a registry: `busybox` is `docker.io/library/busybox`. A pattern that
/// begins with a wildcard, and an image id, stay as they are.
fn full(name: &str) -> String {
    if name.starts_with("sha256:") || name.starts_with('*') {
        return name.to_owned();
    }
    match name.split_once('/') {
        Some(("index.docker.io" | "registry-1.docker.io", rest)) => {
            full(&format!("docker.io/{rest}"))
        }
        Some(("docker.io", rest)) if !rest.contains('/') && !rest.contains('*') => {
            format!("docker.io/library/{rest}")
        }
        Some((first, _)) if first.contains(['.', ':', '*', '?']) || first == "localhost" => {
            name.to_owned()
        }
        Some(_) => format!("docker.io/{name}"),
        None => format!("docker.io/library/{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    fn allowed(pattern: &str, image: &str) -> bool {
        let image: ImageRef = image
            .replace("DIGEST", DIGEST)
            .parse()
            .expect("the table has images");
        violation(&image, Some(&[pattern.replace("DIGEST", DIGEST)])).is_none()
    }

    #[test]
    fn a_pattern_is_held_against_the_whole_name_in_full() {
        for (pattern, image) in [
            ("registry.example.com/*", "registry.example.com/a@DIGEST"),
            (
                "registry.example.com/*",
                "registry.example.com/a/b/c:1@DIGEST",
            ),
            (
                "registry.example.com:5000/*",
                "registry.example.com:5000/a@DIGEST",
            ),
            (
                "registry.example.com/a",
                "registry.example.com/a:1.2@DIGEST",
            ),
            (
                "registry.example.com/a:1.*",
                "registry.example.com/a:1.2@DIGEST",
            ),
            (
                "registry.example.com/a@DIGEST",
                "registry.example.com/a:1.2@DIGEST",
            ),
            (
                "registry.example.com/a@sha256:*",
                "registry.example.com/a@DIGEST",
            ),
            ("busybox", "busybox@DIGEST"),
            ("busybox", "docker.io/library/busybox@DIGEST"),
            ("docker.io/library/*", "busybox:1.36@DIGEST"),
            ("docker.io/busybox", "library/busybox@DIGEST"),
            ("docker.io/acme/*", "acme/x@DIGEST"),
            ("acme/*", "index.docker.io/acme/x@DIGEST"),
            ("*", "anything/at/all@DIGEST"),
            ("*/mosquitto", "registry.example.com/a/mosquitto@DIGEST"),
            ("sha256:*", "DIGEST"),
            ("DIGEST", "DIGEST"),
            ("localhost/*", "localhost/a@DIGEST"),
        ] {
            assert!(allowed(pattern, image), "{pattern} {image}");
        }
    }

    #[test]
    fn what_only_looks_like_an_allowed_image_is_not() {
        for (pattern, image) in [
            (
                "registry.example.com/*",
                "registry.example.com.evil.example/a@DIGEST",
            ),
            (
                "registry.example.com/*",
                "registry.example.com:5000/a@DIGEST",
            ),
            (
                "registry.example.com/*",
                "evil.example/registry.example.com/a@DIGEST",
            ),
            ("registry.example.com/*", "Registry.example.com/a@DIGEST"),
            ("registry.example.com/*", "DIGEST"),
            (
                "registry.example.com/acme/*",
                "registry.example.com/acme2/a@DIGEST",
            ),
            ("registry.example.com/a", "registry.example.com/a/b@DIGEST"),
            // A tag is the sender's own word: it makes nothing fit.
            ("*mosquitto", "evil.example/x:mosquitto@DIGEST"),
            (
                "registry.example.com/a:1.2",
                "registry.example.com/a@DIGEST",
            ),
            ("busybox", "quay.io/library/busybox@DIGEST"),
            ("busybox", "acme/busybox@DIGEST"),
            ("acme/*", "registry.example.com/acme/x@DIGEST"),
            ("docker.io/library/*", "acme/x@DIGEST"),
            ("sha256:*", "busybox@DIGEST"),
            ("", "busybox@DIGEST"),
        ] {
            assert!(!allowed(pattern, image), "{pattern} {image}");
        }
    }
}
