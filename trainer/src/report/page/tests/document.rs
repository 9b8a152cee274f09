//! The elements of a page or an SVG file, parsed with quick-xml.

use quick_xml::escape::unescape;
use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};
use std::collections::HashMap;

/// Elements of HTML without an end tag.
const VOID: [&str; 4] = ["img", "input", "meta", "source"];
/// Elements of HTML whose content is not markup.
const RAW: [&str; 2] = ["script", "style"];

/// An element with everything in it.
#[derive(Default)]
pub struct Element {
    pub name: String,
    attributes: HashMap<String, String>,
    /// Text of the element and of all elements in it.
    pub text: String,
    children: Vec<Element>,
}

impl Element {
    /// Returns the value of an attribute, or an empty text.
    pub fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }

    /// Returns all elements in this one with this name, in order.
    pub fn all(&self, name: &str) -> Vec<&Element> {
        self.elements().into_iter().filter(|element| element.name == name).collect()
    }

    /// Returns the only element with this name and class.
    pub fn one(&self, name: &str, class: &str) -> &Element {
        let found = self.with_class(name, class);
        assert_eq!(found.len(), 1, "elements {name} of class {class}");
        found[0]
    }

    /// Returns the elements with this name and class.
    pub fn with_class(&self, name: &str, class: &str) -> Vec<&Element> {
        let has_class = |element: &&Element| element.attribute("class").split(' ').any(|other| other == class);
        self.all(name).into_iter().filter(has_class).collect()
    }

    /// Returns the section of the page with this identifier.
    pub fn section(&self, id: &str) -> Option<&Element> {
        self.all("section").into_iter().find(|section| section.attribute("id") == id)
    }

    /// Returns all elements in this one, in order.
    pub fn elements(&self) -> Vec<&Element> {
        let mut elements = Vec::new();
        for child in &self.children {
            elements.push(child);
            elements.extend(child.elements());
        }
        elements
    }

    /// Returns all values of attributes.
    pub fn attribute_values(&self) -> impl Iterator<Item = &String> {
        self.elements().into_iter().flat_map(|element| element.attributes.values())
    }
}

/// Parses a page or an SVG file.
///
/// # Panics
/// Panics if it is malformed: tags that do not match, unescaped characters, or attributes that occur twice.
pub fn parse(text: &str) -> Element {
    let text = protect_raw_text(text);
    let mut reader = Reader::from_str(&text);
    // Void elements have no end tags, so that nesting is checked here.
    reader.config_mut().check_end_names = false;
    let mut open = vec![Element::default()];
    loop {
        match reader.read_event().expect("the page is well-formed") {
            Event::Start(start) if VOID.contains(&start.name().into_inner()) => close(&mut open, element(&start)),
            Event::Start(start) => open.push(element(&start)),
            Event::End(end) => {
                let element = open.pop().unwrap();
                assert_eq!(element.name, end.name().into_inner());
                close(&mut open, element);
            }
            Event::Text(text) => add_text(&mut open, &text.html_content()),
            Event::CData(text) => add_text(&mut open, &text.html_content()),
            Event::GeneralRef(name) => add_text(&mut open, &unescape(&format!("&{};", name.html_content())).unwrap()),
            Event::Eof => break,
            Event::DocType(_) => {}
            other => panic!("unexpected {other:?}"),
        }
    }
    assert_eq!(open.len(), 1, "all elements are closed");
    open.pop().unwrap()
}

/// Marks the content of scripts and styles as text.
fn protect_raw_text(text: &str) -> String {
    let mut text = text.to_owned();
    for name in RAW {
        let parts: Vec<_> = text.split(&format!("<{name}")).map(str::to_owned).collect();
        let protect = |part: &String| {
            let (attributes, rest) = part.split_once('>').unwrap();
            let (content, rest) = rest.split_once(&format!("</{name}>")).unwrap();
            let content = content.replace("]]>", "]]]]><![CDATA[>");
            format!("<{name}{attributes}><![CDATA[{content}]]></{name}>{rest}")
        };
        text = parts[0].clone() + &parts[1..].iter().map(protect).collect::<String>();
    }
    text
}

fn element(start: &BytesStart) -> Element {
    let mut attributes = HashMap::new();
    for attribute in start.html_attributes() {
        let attribute = attribute.expect("attributes are well-formed and unique");
        let value = attribute.normalized_value(XmlVersion::Implicit1_0).expect("values are escaped");
        attributes.insert(attribute.key.into_inner().to_owned(), value.into_owned());
    }
    Element { name: start.name().into_inner().to_owned(), attributes, ..Element::default() }
}

fn add_text(open: &mut [Element], text: &str) {
    open.last_mut().unwrap().text += text;
}

fn close(open: &mut [Element], element: Element) {
    let parent = open.last_mut().unwrap();
    parent.text += &element.text;
    parent.children.push(element);
}
