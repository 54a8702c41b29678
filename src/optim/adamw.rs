//! AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101) with fp32 master weights and moments, clipping by the global norm,
//! and updates that skip themselves where a gradient is not finite. Nothing in a step waits for the device.

use std::ops::Range;

use tch::{Kind, TchError, Tensor};

use crate::ffi::{self, AdamWLists, AdamWNumbers};
use crate::hf::names::ParameterSpec;
use crate::model::parameters::Parameters;

/// Elements updated at once: gradients that are not fp32 exist in fp32 only for so many.
const SPAN: usize = 1 << 26;

/// The optimizer's numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// The first moment's decay.
    pub beta1: f64,
    /// The second moment's decay.
    pub beta2: f64,
    /// Added to the denominator.
    pub eps: f64,
    /// Decoupled weight decay; norms and biases have none.
    pub weight_decay: f64,
    /// Largest global norm of the gradients, if any: larger ones are scaled down to it (Pascanu et al. 2013,
    /// arXiv 1211.5063).
    pub clip_norm: Option<f64>,
}

/// What an update found; scalars on the device, to be read only where they are shown.
#[derive(Debug)]
pub struct Update {
    /// The gradients' global norm before clipping, fp32.
    pub norm: Tensor,
    /// 1 where that norm or the loss is not finite and nothing was changed, else 0; fp32.
    pub skipped: Tensor,
}

/// The state of the optimizer over a model's parameters.
#[derive(Debug)]
pub struct AdamW {
    settings: Settings,
    /// Updates made, an fp32 scalar beside the parameters; skipped ones do not count.
    step: Tensor,
    /// Parameters that decay, then those that do not.
    groups: [Group; 2],
}

#[derive(Debug, Default)]
struct Group {
    /// Positions in the model's parameters.
    at: Vec<usize>,
    parameters: Vec<Tensor>,
    /// fp32; the parameters themselves where those are.
    masters: Vec<Tensor>,
    exp_avgs: Vec<Tensor>,
    exp_avg_sqs: Vec<Tensor>,
}

impl AdamW {
    /// A fresh optimizer over `parameters`, whose storage it updates. Its master weights are those of `masters`: the same
    /// parameters before they were rounded to what computes, in fp32.
    ///
    /// # Errors
    /// Whatever libtorch refuses, such as more memory than there is.
    pub fn new(parameters: &Parameters, masters: &Parameters, settings: Settings) -> Result<Self, TchError> {
        let mut groups = [Group::default(), Group::default()];
        let pairs = parameters.tensors().iter().zip(masters.tensors());
        for (at, (spec, (parameter, master))) in parameters.specs().iter().zip(pairs).enumerate() {
            groups[usize::from(!spec.decay)].push(at, parameter, master)?;
        }
        let step = Tensor::f_zeros([0_i64; 0], (Kind::Float, parameters.device()))?;
        Ok(Self { settings, step, groups })
    }

    /// Updates every parameter by its gradient at learning rate `lr`, unless the gradients or the scalar `loss` they belong
    /// to are not finite. `gradients` are aligned with the parameters; fp32 ones are clipped in place.
    ///
    /// # Errors
    /// Gradients that do not match the parameters.
    pub fn step(&mut self, gradients: &[Tensor], loss: &Tensor, lr: f64) -> Result<Update, TchError> {
        let norm = ffi::global_norm(gradients)?;
        let skipped = (&norm + loss).f_isfinite()?.f_logical_not()?.f_to_kind(Kind::Float)?;
        // As clip_grad_norm_: the gradient times min(1, clip / (norm + 1e-6)), here as a divisor.
        let divisor = match self.settings.clip_norm {
            Some(clip) => ((&norm + 1e-6) / clip).f_clamp_min(1.0)?,
            None => norm.f_ones_like()?,
        };
        self.step = &self.step + 1.0 - &skipped;
        for (group, decays) in self.groups.iter().zip([true, false]).filter(|(group, _)| !group.at.is_empty()) {
            let Settings { beta1, beta2, eps, weight_decay, .. } = self.settings;
            let numbers = AdamWNumbers { lr, beta1, beta2, eps, weight_decay: if decays { weight_decay } else { 0.0 } };
            group.update(gradients, &self.step, &divisor, &skipped, numbers)?;
        }
        Ok(Update { norm, skipped })
    }

    /// Everything it remembers, by the names a checkpoint gives it, sharing storage: `step` (a scalar), and of each
    /// parameter `NAME.exp_avg`, `NAME.exp_avg_sq` and, where it is not its own master, `NAME.master`. `specs` are the
    /// parameters it is over.
    #[must_use]
    pub fn tensors(&self, specs: &[ParameterSpec]) -> Vec<(String, Tensor)> {
        let mut tensors = vec![("step".to_owned(), self.step.shallow_clone())];
        for group in &self.groups {
            for (of, at) in group.at.iter().enumerate() {
                let name = &specs[*at].name;
                tensors.push((format!("{name}.exp_avg"), group.exp_avgs[of].shallow_clone()));
                tensors.push((format!("{name}.exp_avg_sq"), group.exp_avg_sqs[of].shallow_clone()));
                if group.parameters[of].kind() != Kind::Float {
                    tensors.push((format!("{name}.master"), group.masters[of].shallow_clone()));
                }
            }
        }
        tensors
    }

    /// Takes the values of `stored`, aligned with [`Self::tensors`]. Parameters that are not fp32 become their masters,
    /// rounded.
    ///
    /// # Errors
    /// Shapes that differ.
    pub fn restore(&mut self, specs: &[ParameterSpec], stored: &[Tensor]) -> Result<(), TchError> {
        let mine: Vec<_> = self.tensors(specs).into_iter().map(|(_, tensor)| tensor).collect();
        ffi::copy_all(&mine, stored)?;
        for group in &self.groups {
            group.round()?;
        }
        Ok(())
    }
}

impl Group {
    fn push(&mut self, at: usize, parameter: &Tensor, master: &Tensor) -> Result<(), TchError> {
        let parameter = parameter.f_detach()?;
        // Where the parameter is fp32 it is its own master.
        let reduced = parameter.kind() != Kind::Float;
        let master = if reduced { master.f_detach()?.f_to_kind(Kind::Float)? } else { parameter.shallow_clone() };
        self.at.push(at);
        self.exp_avgs.push(master.f_zeros_like()?);
        self.exp_avg_sqs.push(master.f_zeros_like()?);
        self.masters.push(master);
        self.parameters.push(parameter);
        Ok(())
    }

    fn update(
        &self,
        gradients: &[Tensor],
        step: &Tensor,
        divisor: &Tensor,
        skipped: &Tensor,
        numbers: AdamWNumbers,
    ) -> Result<(), TchError> {
        let missing = || TchError::Shape(format!("{} gradients for more parameters", gradients.len()));
        for span in self.spans() {
            let mine = self.at[span.clone()].iter();
            let mine = mine.map(|at| gradients.get(*at).ok_or_else(missing)?.f_to_kind(Kind::Float));
            let mine = mine.collect::<Result<Vec<_>, _>>()?;
            let lists = AdamWLists {
                weights: &self.masters[span.clone()],
                gradients: &mine,
                exp_avgs: &self.exp_avgs[span.clone()],
                exp_avg_sqs: &self.exp_avg_sqs[span],
            };
            ffi::adamw_step(lists, step, divisor, skipped, numbers)?;
        }
        self.round()
    }

    /// Parameters that are not their own masters become those, rounded.
    fn round(&self) -> Result<(), TchError> {
        let reduced = self.parameters.first().is_some_and(|parameter| parameter.kind() != Kind::Float);
        if reduced { ffi::copy_all(&self.parameters, &self.masters) } else { Ok(()) }
    }

    /// Parameters one after another, as many at a time as [`SPAN`] takes, one at least.
    fn spans(&self) -> Vec<Range<usize>> {
        let (mut spans, mut elements): (Vec<Range<usize>>, usize) = (Vec::new(), 0);
        for (at, parameter) in self.parameters.iter().enumerate() {
            elements += parameter.numel();
            match spans.last_mut() {
                Some(span) if elements <= SPAN => span.end = at + 1,
                _ => {
                    spans.push(at..at + 1);
                    elements = parameter.numel();
                }
            }
        }
        spans
    }
}
