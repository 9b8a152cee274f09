//! The licence policy, which is the section `[licenses]` of cargo-deny's configuration.

use serde::Deserialize;
use serde::de::{Deserializer, Error};
use spdx::{Expression, LicenseReq, Licensee, ParseMode};

/// A package, in the format of `cargo metadata`.
#[derive(Deserialize)]
pub struct Package {
    pub name: String,
    pub version: String,
    /// The SPDX expression in the manifest.
    pub license: Option<String>,
}

/// The configuration of cargo-deny. Other sections are ignored.
#[derive(Deserialize)]
pub struct Policy {
    licenses: Section,
}

#[derive(Deserialize)]
struct Section {
    /// Licences that every package may have.
    #[serde(deserialize_with = "licensees")]
    allow: Vec<Licensee>,
    #[serde(default)]
    exceptions: Vec<Exception>,
    #[serde(default)]
    clarify: Vec<Clarification>,
}

/// Licences that one package may have in addition.
#[derive(Deserialize)]
struct Exception {
    /// `NAME` or `NAME@VERSION`.
    #[serde(rename = "crate")]
    package: String,
    #[serde(deserialize_with = "licensees")]
    allow: Vec<Licensee>,
}

/// The licence of a package whose manifest names none.
#[derive(Deserialize)]
struct Clarification {
    /// `NAME` or `NAME@VERSION`.
    #[serde(rename = "crate")]
    package: String,
    expression: String,
}

fn licensees<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Licensee>, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    let parse = |name: &String| Licensee::parse(name).map_err(|error| D::Error::custom(format!("{name}: {error}")));
    names.iter().map(parse).collect()
}

impl Policy {
    /// Returns an error that says why the package is rejected and what to do, if its licences are not allowed.
    pub fn check(&self, package: &Package) -> Result<(), String> {
        let is_meant = |specification: &str| match specification.split_once('@') {
            Some((name, version)) => name == package.name && version == package.version,
            None => specification == package.name,
        };
        let Section { allow, exceptions, clarify } = &self.licenses;
        let clarification = clarify.iter().find(|clarification| is_meant(&clarification.package));
        let expression = clarification.map(|clarification| &clarification.expression).or(package.license.as_ref());
        let expression = expression.ok_or(
            "the manifest names no licence; add [[licenses.clarify]] with the licence of its licence file to deny.toml",
        )?;
        // Old manifests separate alternatives by slashes.
        let parsed = Expression::parse_mode(expression, ParseMode::LAX).map_err(|error| {
            let reason = error.reason;
            format!("{expression} is no SPDX expression ({reason}); add [[licenses.clarify]] to deny.toml")
        })?;
        let exceptions = exceptions.iter().filter(|exception| is_meant(&exception.package));
        let allowed: Vec<_> = allow.iter().chain(exceptions.flat_map(|exception| &exception.allow)).collect();
        let is_allowed = |required: &LicenseReq| allowed.iter().any(|licence| licence.satisfies(required));
        parsed.evaluate_with_failures(is_allowed).map_err(|failures| {
            let failures: Vec<_> = failures.iter().map(|failure| failure.req.to_string()).collect();
            format!(
                "{expression}: {} is not allowed; replace the package, or add [[licenses.exceptions]] to deny.toml if \
                 the conditions are acceptable",
                failures.join(", ")
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = r#"
        [licenses]
        allow = ["MIT", "Apache-2.0"]
        [[licenses.exceptions]]
        crate = "weak"
        allow = ["MPL-2.0"]
        [[licenses.clarify]]
        crate = "silent@1.0.0"
        expression = "MIT"
        [bans]
        multiple-versions = "allow"
    "#;

    /// Checks version 1.0.0 of a package.
    fn check(name: &str, license: impl Into<Option<&'static str>>) -> Result<(), String> {
        let license = license.into().map(str::to_owned);
        let policy: Policy = toml::from_str(POLICY).unwrap();
        policy.check(&Package { name: name.to_owned(), version: "1.0.0".to_owned(), license })
    }

    #[test]
    fn one_allowed_alternative_suffices() {
        for expression in ["MIT", "MIT OR GPL-3.0-only", "GPL-3.0-only/Apache-2.0", "(MIT OR ISC) AND Apache-2.0"] {
            assert_eq!(check("package", expression), Ok(()), "{expression}");
        }
    }

    #[test]
    fn every_condition_has_to_be_allowed() {
        for expression in ["ISC", "MIT AND ISC", "(MIT OR Apache-2.0) AND ISC"] {
            let reason = check("package", expression).unwrap_err();
            assert!(reason.starts_with(&format!("{expression}: ISC is not allowed")), "{reason}");
        }
    }

    #[test]
    fn allowed_licence_does_not_imply_its_variants() {
        check("package", "Apache-2.0 WITH LLVM-exception").unwrap_err();
    }

    #[test]
    fn missing_or_unknown_licences_are_rejected() {
        assert!(check("package", None).unwrap_err().starts_with("the manifest names no licence"));
        assert!(check("package", "Proprietary").unwrap_err().contains("no SPDX expression"));
    }

    #[test]
    fn exceptions_apply_to_one_package() {
        assert_eq!(check("weak", "MPL-2.0"), Ok(()));
        assert_eq!(check("weak", "MIT"), Ok(()));
        check("weak", "GPL-3.0-only").unwrap_err();
        check("strong", "MPL-2.0").unwrap_err();
    }

    #[test]
    fn clarifications_apply_to_one_version() {
        assert_eq!(check("silent", None), Ok(()));
        let policy: Policy = toml::from_str(&POLICY.replace("silent@1.0.0", "silent@1.0.1")).unwrap();
        let package = Package { name: "silent".to_owned(), version: "1.0.0".to_owned(), license: None };
        policy.check(&package).unwrap_err();
    }

    #[test]
    fn misspelled_licences_in_the_policy_are_rejected() {
        assert!(toml::from_str::<Policy>(&POLICY.replace("MPL-2.0", "MPL-2")).is_err());
    }
}
