//! [`Nets`]: ControlNets and T2I adapters by name, and an IP-Adapter.

use super::{Follow, Job};
use crate::error::{Error, Result};
use crate::model::{ControlNetwork, Model};
use crate::nn::ControlNet;
use crate::nn::ip_adapter::IpAdapterNet;
use crate::nn::t2i_adapter::T2iAdapter;
use crate::weights::{Checkpoint, Source};
use crate::wording::Remedy;
use std::collections::BTreeMap;

/// ControlNets and T2I adapters by the names that jobs give them, and the IP-Adapter for pictures to draw like. Each is
/// loaded once.
#[derive(Debug, Default)]
pub struct Nets {
    named: BTreeMap<String, Net>,
    ip_adapter: Option<IpAdapterNet>,
}

/// A loaded network.
#[derive(Debug)]
enum Net {
    ControlNet(Box<ControlNet>),
    T2iAdapter(T2iAdapter),
}

impl Nets {
    /// Name of the embedded ControlNet, which follows lines and strokes.
    pub const EMBEDDED: &str = "embedded";

    /// Adds a ControlNet, in place of a network with the same name.
    pub fn insert(&mut self, name: impl Into<String>, net: ControlNet) {
        self.named.insert(name.into(), Net::ControlNet(Box::new(net)));
    }

    /// Sets the IP-Adapter, in place of an earlier one.
    pub fn set_ip_adapter(&mut self, net: IpAdapterNet) {
        self.ip_adapter = Some(net);
    }

    /// Loads a ControlNet or a T2I adapter for `model`, in place of a network with the same name. The tensors of a
    /// file, or the `config.json` of a folder, show which of them it is.
    ///
    /// # Errors
    /// The errors of [`Model::controlnet`] and [`Model::t2i_adapter`].
    pub fn open(&mut self, name: impl Into<String>, source: &Source, model: &Model) -> Result<()> {
        let net = match Checkpoint::is_t2i_adapter(source)? {
            true => Net::T2iAdapter(model.t2i_adapter(source)?),
            false => Net::ControlNet(Box::new(model.controlnet(source)?)),
        };
        self.named.insert(name.into(), net);
        Ok(())
    }

    /// Loads the networks of a job that are not loaded yet, for `model`. A name is that of a [`Source`]. A program
    /// that reads jobs of strangers calls [`insert`](Self::insert) instead, with the networks that it allows.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a name that is no source, and for line art or strokes that no ControlNet of the model
    /// follows; the errors of [`open`](Self::open).
    pub fn load(&mut self, job: &Job, model: &Model) -> Result<()> {
        for Follow { net: name, .. } in &job.controls {
            if !self.named.contains_key(name) {
                let source: Source = name.parse().map_err(|error| match error {
                    Error::Parameter { value, expected, .. } => {
                        Error::Parameter { name: "the control's net", value, expected }
                    }
                    other => other,
                })?;
                self.open(name, &source, model)?;
            }
        }
        if job.needs_embedded_net(model.colorizes()) && !self.named.contains_key(Self::EMBEDDED) {
            self.open(Self::EMBEDDED, &Source::embedded(), model).map_err(|error| match error {
                // The ControlNet does not fit the model. The job does not name it, so the error names the drawing.
                Error::Parameter { .. } | Error::Config { .. } => job.no_net_for_drawing(),
                other => other,
            })?;
        }
        Ok(())
    }

    /// Returns the names of the networks, in their alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.named.keys().map(String::as_str)
    }

    /// Returns the IP-Adapter.
    ///
    /// # Errors
    /// [`Error::Parameter`] if none is set.
    pub fn ip_adapter(&self) -> Result<&IpAdapterNet> {
        self.ip_adapter.as_ref().ok_or_else(|| {
            let expected = Remedy::IpAdapter.after("no picture to draw like, because no IP-Adapter is loaded");
            Error::parameter("ip_adapter_pictures", "given", expected)
        })
    }

    /// Returns the network with a name.
    ///
    /// # Errors
    /// [`Error::Parameter`] if none has the name.
    pub fn get(&self, name: &str) -> Result<ControlNetwork<'_>> {
        let net = self.named.get(name).map(|net| match net {
            Net::ControlNet(net) => ControlNetwork::from(&**net),
            Net::T2iAdapter(adapter) => adapter.into(),
        });
        net.ok_or_else(|| {
            let known: Vec<&str> = self.names().collect();
            let known =
                if known.is_empty() { "no ControlNet, because none is loaded".into() } else { known.join(", ") };
            Error::parameter("the control's net", format!("{name:?}"), Remedy::ControlNet.after(known))
        })
    }
}
