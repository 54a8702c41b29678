//! The weights of a decoder, under Hugging Face's names and in the one order of [`names::parameters`].

use tch::{Device, Kind, TchError, Tensor};

use super::config::ModelConfig;
use crate::ffi;
use crate::hf::names::{self, Init, ParameterSpec};

/// Every parameter of a model; tensors are leaves that require gradients.
#[derive(Debug)]
pub struct Parameters {
    specs: Vec<ParameterSpec>,
    tensors: Vec<Tensor>,
}

impl Parameters {
    /// Draws fresh parameters by the configuration's initializer.
    ///
    /// They are drawn on the CPU in fp32, so a seed gives the same model on every device and in every precision.
    /// libtorch's default generator is left seeded with `seed`.
    ///
    /// # Errors
    /// Whatever libtorch refuses, such as more memory than there is.
    pub fn fresh(config: &ModelConfig, seed: u64, kind: Kind, device: Device) -> Result<Self, TchError> {
        let mut tensors = Vec::new();
        Self::draw(config, seed, |_, drawn| {
            tensors.push(drawn.f_to_kind(kind)?.f_to_device(device)?);
            Ok(())
        })?;
        Self::new(names::parameters(config), tensors)
    }

    /// Draws the same one after another, in fp32 on the CPU, and shows each with its index.
    ///
    /// # Errors
    /// As [`fresh`](Self::fresh), and those of `see`.
    pub fn draw(
        config: &ModelConfig,
        seed: u64,
        mut see: impl FnMut(usize, &Tensor) -> Result<(), TchError>,
    ) -> Result<(), TchError> {
        tch::manual_seed(seed.cast_signed());
        for (at, spec) in names::parameters(config).iter().enumerate() {
            let mut drawn = Tensor::f_empty(&spec.shape, (Kind::Float, Device::Cpu))?;
            let drawn = match spec.init {
                Init::Normal { std } => drawn.f_normal_(0.0, std)?,
                Init::Zeros => drawn.f_zero_()?,
                Init::Ones => drawn.f_fill_(1.0)?,
            };
            see(at, &drawn)?;
        }
        Ok(())
    }

    /// Takes tensors that match `specs` one to one in order and shape, and makes leaves of them.
    ///
    /// # Errors
    /// A shape that differs, or what libtorch refuses.
    pub fn new(specs: Vec<ParameterSpec>, tensors: Vec<Tensor>) -> Result<Self, TchError> {
        if specs.len() != tensors.len() {
            return Err(TchError::Shape(format!("{} tensors for {} parameters", tensors.len(), specs.len())));
        }
        for (spec, tensor) in specs.iter().zip(&tensors) {
            if spec.shape != tensor.size() {
                let text = format!("{} has shape {:?}, expected {:?}", spec.name, tensor.size(), spec.shape);
                return Err(TchError::Shape(text));
            }
        }
        let tensors =
            tensors.iter().map(|tensor| tensor.f_detach()?.f_set_requires_grad(true)).collect::<Result<_, _>>()?;
        Ok(Self { specs, tensors })
    }

    /// Names, shapes and decay flags, in order.
    #[must_use]
    pub fn specs(&self) -> &[ParameterSpec] {
        &self.specs
    }

    /// The tensors, in order.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// Names with tensors, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.specs.iter().map(|spec| spec.name.as_str()).zip(&self.tensors)
    }

    /// One parameter by its Hugging Face name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.specs.iter().position(|spec| spec.name == name).map(|at| &self.tensors[at])
    }

    /// Number of elements of all parameters.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.specs.iter().map(ParameterSpec::elements).sum()
    }

    /// Element type of the parameters.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.tensors.first().map_or(Kind::Float, Tensor::kind)
    }

    /// Device of the parameters.
    #[must_use]
    pub fn device(&self) -> Device {
        self.tensors.first().map_or(Device::Cpu, Tensor::device)
    }

    /// Forgets every gradient; there is none until the next backward.
    pub fn zero_grad(&mut self) {
        if ffi::forget_gradients(&self.tensors).is_err() {
            self.tensors.iter_mut().for_each(Tensor::zero_grad);
        }
    }
}
