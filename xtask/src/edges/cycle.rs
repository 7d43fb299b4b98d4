//! Finding one cycle in a small directed graph.

use std::collections::{BTreeMap, BTreeSet};

/// Nodes by name, each with the names it points to.
pub(super) type Graph = BTreeMap<String, BTreeSet<String>>;

/// A cycle as the list of its nodes in order, or nothing.
pub(super) fn find(graph: &Graph) -> Option<Vec<String>> {
    let mut search = Search { graph, trail: Vec::new(), done: BTreeSet::new() };
    graph.keys().find_map(|node| search.visit(node))
}

struct Search<'a> {
    graph: &'a Graph,
    trail: Vec<&'a str>,
    done: BTreeSet<&'a str>,
}

impl<'a> Search<'a> {
    fn visit(&mut self, node: &'a str) -> Option<Vec<String>> {
        if let Some(start) = self.trail.iter().position(|n| *n == node) {
            return Some(self.trail[start..].iter().map(|n| (*n).to_string()).collect());
        }
        if self.done.contains(node) {
            return None;
        }
        self.trail.push(node);
        let next = self.graph.get(node).into_iter().flatten();
        for target in next {
            if let Some(cycle) = self.visit(target) {
                return Some(cycle);
            }
        }
        self.trail.pop();
        self.done.insert(node);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[(&str, &str)]) -> Graph {
        let mut graph = Graph::new();
        for (from, to) in edges {
            graph.entry((*from).into()).or_default().insert((*to).into());
        }
        graph
    }

    #[test]
    fn a_diamond_is_no_cycle() {
        assert_eq!(find(&graph(&[("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")])), None);
    }

    #[test]
    fn the_cycle_is_named_without_the_way_to_it() {
        let cycle = find(&graph(&[("a", "b"), ("b", "c"), ("c", "d"), ("d", "b")])).unwrap();
        assert_eq!(cycle, ["b", "c", "d"]);
    }
}
