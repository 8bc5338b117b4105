//! Templates in Jinja's syntax: strict, and within a budget.
//!
//! An undefined value is an error. Nothing can be included, and there is no time, chance or environment to read.

use std::collections::BTreeMap;

use evenkeel_schema::node::Node;
use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior};

use super::merge;

/// The work one template may do: minijinja counts about one an instruction and one for 64 bytes, so that this bounds
/// time (well under a second on a small device) and memory (64 MiB) alike.
const FUEL: u64 = 1_000_000;
/// How deep a template may nest.
const RECURSION: usize = 100;

/// What is wrong with a template, and where in its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TemplateError {
    /// Line, from 1.
    pub(super) line: u32,
    /// Column in characters, from 1.
    pub(super) column: u32,
    /// In one sentence.
    pub(super) message: String,
}

/// Renders the templates of one app.
pub(super) struct Templates {
    environment: Environment<'static>,
    scope: minijinja::Value,
}

impl Templates {
    /// With `values`, `device` (`id`, `labels`) and `app` (`name`) in scope.
    pub(super) fn new(
        values: &Node,
        device: &str,
        labels: &BTreeMap<String, String>,
        app: &str,
    ) -> Self {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(RECURSION);
        environment.set_debug(true);
        // Jinja drops a final newline; a configuration file should keep its own.
        let syntax = SyntaxConfig::builder()
            .keep_trailing_newline(true)
            .build()
            .expect("the standard delimiters are distinct");
        environment.set_syntax(syntax);
        let scope = minijinja::context! {
            values => merge::for_templates(values),
            device => minijinja::context! { id => device, labels => labels },
            app => minijinja::context! { name => app },
        };
        Self { environment, scope }
    }

    /// Whether a text has anything to render.
    pub(super) fn has_template(text: &str) -> bool {
        ["{{", "{%", "{#"].iter().any(|open| text.contains(open))
    }

    /// The text, rendered.
    pub(super) fn render(&self, text: &str) -> Result<String, TemplateError> {
        if !Self::has_template(text) {
            return Ok(text.to_owned());
        }
        let template = self
            .environment
            .template_from_str(text)
            .map_err(|error| told(&error, text))?;
        if template.undeclared_variables(false).contains("secrets") {
            let at = text.find("secrets").unwrap_or_default();
            return Err(at_byte(
                text,
                at,
                "secrets are not supported by this version of evenkeel: remove this, and put the secret on the device by hand"
                    .to_owned(),
            ));
        }
        template
            .render(self.scope.clone())
            .map_err(|error| told(&error, text))
    }
}

fn at_byte(text: &str, byte: usize, message: String) -> TemplateError {
    let before = text.get(..byte).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |index| index + 1);
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    TemplateError {
        line: count(before.matches('\n').count() + 1),
        column: count(before[line_start..].chars().count() + 1),
        message,
    }
}

fn told(error: &minijinja::Error, text: &str) -> TemplateError {
    let expression = error.range().and_then(|range| text.get(range));
    let message = match (error.kind(), expression) {
        (ErrorKind::UndefinedError, Some(expression)) => format!(
            "`{}` is not defined for this device",
            expression.trim().escape_debug()
        ),
        (ErrorKind::OutOfFuel, _) => "this template does too much work".to_owned(),
        (kind, _) => match error.detail() {
            Some(detail) => format!("{kind}: {detail}"),
            None => kind.to_string(),
        },
    };
    match error.range() {
        Some(range) => at_byte(text, range.start, message),
        None => TemplateError {
            line: error
                .line()
                .and_then(|line| u32::try_from(line).ok())
                .unwrap_or(1),
            column: 1,
            message,
        },
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may stop at a surprise")]
mod tests {
    use evenkeel_schema::diagnostic::Diagnostics;

    use super::*;

    fn templates() -> Templates {
        let values = evenkeel_schema::toml_document::parse(
            "v.toml",
            b"tz = 'Europe/Vienna'\nmqtt.port = 1883\nlist = [1, 2]\nhostile = '{{ 1 + 1 }}\"]'\n",
            &mut Diagnostics::new(),
        )
        .unwrap();
        let labels = BTreeMap::from([("site".to_owned(), "plant-a".to_owned())]);
        Templates::new(&values, "gw-1", &labels, "mqtt")
    }

    #[test]
    fn values_device_and_app_are_in_scope() {
        let text = "{{ values.mqtt.port }} {{ device.id }} {{ device.labels.site }} {{ app.name }} {% for x in values.list %}{{ x }}{% endfor %}\n";
        assert_eq!(
            templates().render(text).unwrap(),
            "1883 gw-1 plant-a mqtt 12\n"
        );
        assert_eq!(
            templates().render("{{ values.list | tojson }}").unwrap(),
            "[1, 2]"
        );
        assert_eq!(
            templates()
                .render("{{ values.nope | default(5) }}")
                .unwrap(),
            "5"
        );
    }

    #[test]
    fn a_value_is_never_rendered_again_and_never_escaped() {
        assert_eq!(
            templates().render("{{ values.hostile }}").unwrap(),
            "{{ 1 + 1 }}\"]"
        );
    }

    #[test]
    fn errors_name_their_place() {
        let error = templates()
            .render("a\n  {{ values.mqtt.prot }}\n")
            .unwrap_err();
        assert_eq!((error.line, error.column), (2, 6), "{error:?}");
        assert!(
            error.message.contains("`values.mqtt.prot` is not defined"),
            "{error:?}"
        );
        let error = templates().render("a\n{{ values.tz\n").unwrap_err();
        assert!(error.line >= 2, "{error:?}");
        let error = templates().render("x {{ secrets.password }}").unwrap_err();
        assert_eq!((error.line, error.column), (1, 6));
        assert!(error.message.contains("not supported by this version"));
        for nothing_else in [
            "{% include 'x' %}",
            "{{ env.HOME }}",
            "{{ 'a' | nofilter }}",
        ] {
            assert!(templates().render(nothing_else).is_err(), "{nothing_else}");
        }
    }

    #[test]
    fn a_template_that_does_too_much_is_stopped() {
        let nested =
            "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}";
        assert!(
            templates()
                .render(nested)
                .unwrap_err()
                .message
                .contains("too much work")
        );
        for large in [
            "{{ 'x' * 999999999 }}",
            "{{ 'x\\ny' | indent(999999999) }}",
            "{% set ns = namespace(s='xxxxxxxxxxxxxxxx') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        ] {
            assert!(templates().render(large).is_err(), "{large}");
        }
        let deep = format!("{{{{ {}1{} }}}}", "(".repeat(5000), ")".repeat(5000));
        assert!(templates().render(&deep).is_err());
    }
}
