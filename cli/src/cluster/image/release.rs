//! Which image new clusters use, and who has it.
//!
//! ```text
//! CORACLE_IMAGE_DIGEST -+
//! images/current -------+--> digest, the first there is      (none: whatever the first source has)
//! the release ----------+
//!
//! CORACLE_IMAGE_MIRROR -+--> sources, the first there are    (none: the image is built here)
//! the release ----------+
//! ```
//!
//! The release is what a released program is compiled with: `CORACLE_RELEASE_DIGEST`, the digest of the
//! image that was built from the same sources, and `CORACLE_RELEASE_URL`, where that is (several URLs are
//! separated by commas). A program that is built without these two has none.

use crate::error::{Context as _, Error, ErrorId, Result};
use crate::settings::Settings;
use coracle_iso::Digest;
use coracle_iso::images::Store;
use coracle_iso::images::download::Source;

const RELEASE_URL: Option<&str> = given(option_env!("CORACLE_RELEASE_URL"));
const RELEASE_DIGEST: Option<&str> = given(option_env!("CORACLE_RELEASE_DIGEST"));

// Half a release, or a digest that is none, is found by whoever builds it.
const _: () = assert!(
    RELEASE_URL.is_some() == RELEASE_DIGEST.is_some(),
    "a release has both CORACLE_RELEASE_URL and CORACLE_RELEASE_DIGEST"
);
const _: () = assert!(
    match RELEASE_DIGEST {
        Some(digest) => is_digest(digest),
        None => true,
    },
    "CORACLE_RELEASE_DIGEST is not sha256: and 64 lower-case hexadecimal digits"
);

const fn given(text: Option<&'static str>) -> Option<&'static str> {
    match text {
        Some(text) if !text.is_empty() => Some(text),
        _ => None,
    }
}

const fn is_digest(text: &str) -> bool {
    let Some((prefix, mut digits)) = text.as_bytes().split_at_checked(7) else {
        return false;
    };
    if !matches!(prefix, b"sha256:") || digits.len() != 64 {
        return false;
    }
    while let [first, rest @ ..] = digits {
        if !matches!(first, b'0'..=b'9' | b'a'..=b'f') {
            return false;
        }
        digits = rest;
    }
    true
}

/// The image that new clusters use; None where the first source is to say.
pub fn chosen(settings: &Settings) -> Result<Option<Digest>> {
    if let Some(text) = &settings.image_digest {
        return digest("CORACLE_IMAGE_DIGEST", text).map(Some);
    }
    // Nobody but `image-build`, or a program that has no release, wrote this.
    if let Some(current) = Store::new(&settings.home).current()? {
        return Ok(Some(current));
    }
    of_release()
}

/// The images that a start of this program may ask for. A setting that is none names no image.
pub fn pinned(settings: &Settings) -> impl Iterator<Item = Digest> {
    let asked = settings.image_digest.as_deref();
    let asked = asked.and_then(|text| text.trim().parse().ok());
    asked.into_iter().chain(of_release().ok().flatten())
}

fn of_release() -> Result<Option<Digest>> {
    RELEASE_DIGEST
        .map(|text| digest("CORACLE_RELEASE_DIGEST", text))
        .transpose()
}

fn digest(name: &str, text: &str) -> Result<Digest> {
    text.trim()
        .parse()
        .context(ErrorId::ImageMirrorInvalid, || {
            format!("{name} is no digest of an image")
        })
}

/// Where images are fetched from, in order; none where they are built.
///
/// # Errors
/// A source is neither a URL nor a folder, or what it sends could be changed on the way and nothing says
/// what it has to be.
pub fn sources(settings: &Settings) -> Result<Vec<Source>> {
    let (name, text) = match settings.image_mirror.as_deref() {
        Some(text) => ("CORACLE_IMAGE_MIRROR", text),
        None => ("CORACLE_RELEASE_URL", RELEASE_URL.unwrap_or_default()),
    };
    let texts = text.split(',').map(str::trim);
    let sources = texts.filter(|text| !text.is_empty()).map(|text| {
        text.parse::<Source>()
            .context(ErrorId::ImageMirrorInvalid, || {
                format!("{name} holds something that is neither a URL nor a folder")
            })
    });
    sources.collect()
}

/// Refuses sources of an image of which nothing is known, where anybody on the way could send another.
pub fn check_authentic(sources: &[Source], digest: Option<&Digest>) -> Result<()> {
    let open = sources.iter().find(|source| !source.is_authentic());
    match (digest, open) {
        (None, Some(source)) => Err(Error::new(
            ErrorId::ImageMirrorInvalid,
            format!("{source} is not encrypted, and nothing says which image it has to have"),
        )
        .help(
            "set CORACLE_IMAGE_DIGEST to the digest of its image.json, as sha256:HEX, or use https",
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_names_a_digest() {
        assert!(is_digest(&Digest::of("abc").to_string()));
        for wrong in ["", "sha256:", "sha256:00", &"a".repeat(71)] {
            assert!(!is_digest(wrong), "{wrong}");
        }
        let upper = format!("sha256:{}", "A".repeat(64));
        assert!(!is_digest(&upper));
        assert_eq!(given(Some("")), None);
    }

    #[test]
    fn only_what_cannot_be_changed_on_the_way_may_say_which_image_it_is() {
        let sources = |texts: &[&str]| -> Vec<Source> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let open = sources(&["/folder", "http://me:hidden@a.example"]);
        let refused = check_authentic(&open, None).unwrap_err();
        assert_eq!(refused.exit_code(), 48);
        assert!(!refused.render("a").contains("hidden"));
        check_authentic(&open, Some(&Digest::of("abc"))).unwrap();
        check_authentic(&sources(&["/folder", "https://a.example"]), None).unwrap();
    }
}
