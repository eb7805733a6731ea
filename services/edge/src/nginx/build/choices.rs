//! The maps that choose among the routes of one path, by host, method and headers; none where one route takes all.
//! Pure.

use super::{METHOD, REQUEST_HOST, name};
use crate::nginx::routing::{ByMethod, Choice, Route, Table};
use crate::nginx::tree::{DataError, Node, Text, Variable, block, entry};

/// The maps of the table with this number, and what names the route: its id, or the map that chooses it.
pub(super) fn choose(number: usize, table: &Table<'_>) -> Result<(Vec<Node>, Text), DataError> {
    let mut maps = Maps { number, by_header: 0, nodes: Vec::new() };
    let others = maps.by_method(0, &table.others)?;
    let mut entries = vec![default(others.clone())];
    for (at, (host, by)) in table.hosts.iter().enumerate() {
        entries.push(entry(Text::data(host.as_str())?, maps.by_method(at + 1, by)?));
    }
    if table.hosts.is_empty() {
        return Ok((maps.nodes, others));
    }
    let by_host = Variable::numbered("stomaton_by_host", number, 0);
    let chosen = maps.add(REQUEST_HOST.into(), by_host, entries);
    Ok((maps.nodes, chosen))
}

struct Maps {
    /// Of the table.
    number: usize,
    /// How many there are by header.
    by_header: usize,
    nodes: Vec<Node>,
}

impl Maps {
    /// A map from `source` to `variable`; gives what reads it.
    fn add(&mut self, source: Text, variable: Variable, entries: Vec<Node>) -> Text {
        self.nodes.push(block("map", [source.into(), name(variable)], entries));
        variable.into()
    }

    fn by_method(&mut self, class: usize, by: &ByMethod<'_>) -> Result<Text, DataError> {
        let others = self.by_headers(&by.others)?;
        if by.methods.is_empty() {
            return Ok(others);
        }
        let mut entries = vec![default(others)];
        for (method, choice) in &by.methods {
            entries.push(entry(Text::fixed(method.as_str()), self.by_headers(choice)?));
        }
        let variable = Variable::numbered("stomaton_by_method", self.number, class);
        Ok(self.add(METHOD.into(), variable, entries))
    }

    /// The last resort first, since each map leads to those after it.
    fn by_headers(&mut self, choice: &Choice<'_>) -> Result<Text, DataError> {
        let mut chosen = id(choice.otherwise)?;
        for route in choice.by_headers.iter().rev() {
            chosen = self.if_headers(route, &chosen)?;
        }
        Ok(chosen)
    }

    /// `route` for requests that have all of its headers, `otherwise` for the rest.
    fn if_headers(&mut self, route: &Route, otherwise: &Text) -> Result<Text, DataError> {
        let mut chosen = id(Some(route))?;
        for (header, value) in route.headers.iter().rev() {
            // With a backslash before it no value is a word of NGINX's own.
            let key = Text::fixed("\\").and(value.as_str())?;
            let entries = vec![default(otherwise.clone()), entry(key, chosen)];
            let variable = Variable::numbered("stomaton_by_header", self.number, self.by_header);
            self.by_header += 1;
            chosen = self.add(Text::header(header), variable, entries);
        }
        Ok(chosen)
    }
}

fn default(value: Text) -> Node {
    entry(Text::fixed("default"), value)
}

fn id(route: Option<&Route>) -> Result<Text, DataError> {
    route.map_or(Ok(Text::default()), |route| Text::data(route.id.as_str()))
}
