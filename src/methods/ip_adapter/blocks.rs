//! [`Blocks`]: strengths of an IP-Adapter by blocks of the network.

use super::strength::check_strength;
use crate::attention::AttentionSite;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// Strengths by blocks of the network. An empty list gives every site the strength 1.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Blocks(Vec<Block>);

/// A block, and its strength.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Block {
    /// Beginning of the names of the block's sites, such as `up_blocks.1.attentions.0`.
    name: String,
    strength: f64,
}

impl Block {
    fn has(&self, site: &AttentionSite) -> bool {
        site.name.strip_prefix(self.name.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }
}

impl Blocks {
    pub(super) fn push(&mut self, name: String, strength: f64) {
        self.0.push(Block { name, strength });
    }

    /// Returns the strength at a site: that of the longest name that the site has, of the later one among equal names,
    /// and 0 if no name fits.
    pub(super) fn strength(&self, site: &AttentionSite) -> f64 {
        let named = self.0.iter().filter(|block| block.has(site)).max_by_key(|block| block.name.len());
        match named {
            Some(block) => block.strength,
            None if self.0.is_empty() => 1.0,
            None => 0.0,
        }
    }

    /// Checks the strengths before a run.
    pub(super) fn check(&self) -> Result<()> {
        self.0.iter().try_for_each(|block| check_strength("strength of a block", block.strength))
    }

    /// Checks that every block has sites.
    pub(super) fn check_sites(&self, sites: &[&AttentionSite]) -> Result<()> {
        let without = |block: &&Block| !sites.iter().any(|site| block.has(site));
        let Some(block) = self.0.iter().find(without) else { return Ok(()) };
        // The names of attentions without the number of their transformer block.
        let mut known: Vec<&str> =
            sites.iter().filter_map(|site| site.name.split(".transformer_blocks").next()).collect();
        known.dedup();
        let expected = format!("the name or the beginning of one of these blocks: {}", known.join(", "));
        Err(Error::parameter("block", &block.name, expected))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attention::{Place, SiteKind};

    fn site(name: &str) -> AttentionSite {
        AttentionSite::new(format!("{name}.transformer_blocks.0.attn2"), SiteKind::Cross, Place::Up, 0, 1)
    }

    #[test]
    fn longest_name_of_a_block_counts() {
        let mut blocks = Blocks::default();
        assert_eq!(blocks.strength(&site("up_blocks.1.attentions.0")), 1.0);
        blocks.push("up_blocks.1".into(), 0.5);
        blocks.push("up_blocks.1.attentions.0".into(), 0.9);
        blocks.push("up_blocks".into(), 0.2);
        let strengths =
            ["up_blocks.1.attentions.0", "up_blocks.1.attentions.1", "up_blocks.10.attentions.0", "mid_block"]
                .map(|name| blocks.strength(&site(name)));
        assert_eq!(strengths, [0.9, 0.5, 0.2, 0.0]);
    }

    #[test]
    fn block_without_sites_is_an_error() {
        let sites = [site("down_blocks.0.attentions.0"), site("mid_block.attentions.0")];
        let mut blocks = Blocks::default();
        blocks.push("mid".into(), 1.0);
        let message = blocks.check_sites(&sites.iter().collect::<Vec<_>>()).unwrap_err().to_string();
        assert!(message.contains("block is mid") && message.contains("mid_block.attentions.0"), "{message}");
        blocks.push("mid_block".into(), f64::NAN);
        assert!(blocks.check().is_err());
    }
}
