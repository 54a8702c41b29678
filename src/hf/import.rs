//! Weights out of a Hugging Face folder: one safetensors file, or several with an index.
//!
//! Files are mapped and checked whole against the configuration, so a wrong folder is refused with all that is wrong before
//! memory is spent on it; then each copies what it needs, and nothing else is read.

use std::path::Path;

use tch::{Device, Kind, Tensor};

use super::dtype::Dtype;
use super::error::HfError;
use super::headers;
use super::names::{self, ParameterSpec};
use super::stored::Stored;
use crate::model::config::ModelConfig;
use crate::model::parameters::Parameters;

/// The weights of a folder, known to be those of a configuration.
#[derive(Debug)]
pub struct Weights {
    stored: Stored,
    specs: Vec<ParameterSpec>,
}

impl Weights {
    /// Maps the weights of `folder` and checks them.
    ///
    /// Tied heads may be present or absent; where one is present it must equal the embedding.
    ///
    /// # Errors
    /// [`HfError::NoWeights`], [`HfError::Safetensors`], [`HfError::Json`] for the index, and [`HfError::Weights`] with
    /// every missing, unexpected or wrong-shaped tensor at once.
    pub fn open(folder: &Path, config: &ModelConfig) -> Result<Self, HfError> {
        Self::checked(folder, config, headers::open(folder, config)?)
    }

    /// The same of a folder in which only the files `listed` count, whatever else lies there.
    ///
    /// # Errors
    /// As [`open`](Self::open), and weights that are not listed.
    pub fn open_listed(folder: &Path, config: &ModelConfig, listed: &[&str]) -> Result<Self, HfError> {
        Self::checked(folder, config, headers::open_listed(folder, config, listed)?)
    }

    /// Weights whose headers fit, of which a tied head must be the embedding.
    fn checked(folder: &Path, config: &ModelConfig, stored: Stored) -> Result<Self, HfError> {
        let mut problems = Vec::new();
        if config.tied_embeddings && stored.has(names::HEAD) {
            let [head, embedding] = [names::HEAD, names::EMBEDDING];
            if stored.bytes(head) != stored.bytes(embedding) {
                let tie = "while config.json ties them (tie_word_embeddings)";
                problems.push(format!("{head} differs from {embedding} {tie}"));
            }
        }
        if problems.is_empty() {
            Ok(Self { stored, specs: names::parameters(config) })
        } else {
            Err(HfError::Weights { folder: folder.to_owned(), problems })
        }
    }

    /// The parameters of the configuration, in canonical order.
    #[must_use]
    pub fn specs(&self) -> &[ParameterSpec] {
        &self.specs
    }

    /// Copies the elements of the parameter `name` from the one numbered `from` on, row by row, into `tensor`, as many as it
    /// has, converted to its element type, on its device. It must be contiguous, and may be part of another.
    ///
    /// # Errors
    /// Elements that the parameter does not have, and what libtorch refuses.
    pub fn fill(&self, name: &str, from: i64, tensor: &Tensor) -> Result<(), HfError> {
        self.stored.fill(name, from, tensor)
    }

    /// All of them as `kind` on `device`.
    ///
    /// # Errors
    /// More memory than there is.
    pub fn load(self, kind: Kind, device: Device) -> Result<Parameters, HfError> {
        let tensors = self.specs.iter().map(|spec| {
            let tensor = Tensor::f_empty(&spec.shape, (kind, device))?;
            self.fill(&spec.name, 0, &tensor)?;
            Ok(tensor)
        });
        let tensors = tensors.collect::<Result<Vec<_>, HfError>>()?;
        Ok(Parameters::new(self.specs, tensors)?)
    }

    /// As [`fill`](Self::fill), of elements that must be finite.
    ///
    /// # Errors
    /// As [`fill`](Self::fill), and elements that are infinite or not a number.
    pub fn fill_finite(&self, name: &str, from: i64, tensor: &Tensor) -> Result<(), HfError> {
        self.fill(name, from, tensor)?;
        // A sum takes one pass and no memory, and is finite only where all elements are, which are counted where it is not.
        if tensor.f_sum(Kind::Double)?.f_double_value(&[])?.is_finite() {
            return Ok(());
        }
        let count = tensor.numel() as i64 - tensor.f_isfinite()?.f_sum(Kind::Int64)?.f_int64_value(&[])?;
        if count == 0 {
            return Ok(());
        }
        let path = self.stored.files_of(name).into();
        let what = "infinite or not a number: the weights are damaged, or were stored in a type too narrow for them";
        Err(HfError::Tensors {
            path,
            problems: vec![format!("{name}: {count} of {} values are {what}", tensor.numel())],
        })
    }

    /// The widest element type stored.
    #[must_use]
    pub fn dtype(&self) -> Dtype {
        self.stored.widest().unwrap_or(Dtype::Fp32)
    }

    /// A parameter on the CPU, of the element type it is stored in.
    ///
    /// # Errors
    /// One that there is none of, and what libtorch refuses.
    pub fn tensor(&self, name: &str) -> Result<Tensor, HfError> {
        self.stored.tensor(name)
    }
}

/// Loads the weights of `folder` as `kind` on `device`.
///
/// # Errors
/// As [`Weights::open`], and more memory than there is.
pub fn load(folder: &Path, config: &ModelConfig, kind: Kind, device: Device) -> Result<Parameters, HfError> {
    Weights::open(folder, config)?.load(kind, device)
}
