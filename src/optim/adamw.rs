//! AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101) with fp32 master weights, clipping by the global norm,
//! and updates that skip themselves where a gradient is not finite. Nothing in a step waits for the device.

use tch::{Device, Kind, TchError, Tensor};

use crate::ffi::{self, AdamWNumbers, AdamWParameter, AdamWScalars};
use crate::hf::names::ParameterSpec;
use crate::model::parameters::Parameters;
use crate::model::twins::{Size, Twin};
use crate::optim::slice::{Held, Slice};

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
    /// Element type of the moments: fp32, or bf16 rounded at random (stochastic rounding, as in Zamirai et al. 2020,
    /// arXiv 2010.06192).
    pub moments: Kind,
    /// Largest global norm of the gradients, if any: larger ones are scaled down to it (Pascanu et al. 2013,
    /// arXiv 1211.5063).
    pub clip_norm: Option<f64>,
}

impl Default for Settings {
    /// Those of a recipe that says nothing of them.
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1, moments: Kind::Float, clip_norm: Some(1.0) }
    }
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
    /// In the order of the parameters.
    states: Vec<State>,
}

/// What it keeps of one parameter, or of what this rank holds of it.
#[derive(Debug)]
struct State {
    /// Which parameter.
    parameter: usize,
    /// How many of its elements come before.
    from: i64,
    /// fp32; the parameter itself where that is.
    master: Tensor,
    /// The parameter, where it is not its own master.
    weight: Option<Tensor>,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    decays: bool,
}

impl AdamW {
    /// A fresh optimizer over `parameters`, whose storage it updates. Its master weights are those of `masters`: the same
    /// parameters before they were rounded to what computes, in fp32.
    ///
    /// # Errors
    /// Whatever libtorch refuses, such as more memory than there is.
    pub fn new(parameters: &Parameters, masters: &Parameters, settings: Settings) -> Result<Self, TchError> {
        let held = parameters.tensors().iter().enumerate();
        let held = held.map(|(at, weight)| Held { parameter: at, from: 0, weight: weight.shallow_clone() }).collect();
        let optimizer = Self::over(held, parameters.specs(), settings, parameters.device())?;
        optimizer.set_masters(masters)?;
        Ok(optimizer)
    }

    /// A fresh optimizer over what this rank holds of the parameters of `specs`, on `device`. Where these do not compute in
    /// fp32 its masters are zeros as yet.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn over(
        held: Vec<Held>,
        specs: &[ParameterSpec],
        settings: Settings,
        device: Device,
    ) -> Result<Self, TchError> {
        let states = held.into_iter().map(|held| {
            let decays = specs[held.parameter].decay;
            State::new(held, settings.moments, decays)
        });
        let step = Tensor::f_zeros([0_i64; 0], (Kind::Float, device))?;
        Ok(Self { settings, step, states: states.collect::<Result<_, _>>()? })
    }

    /// Copies the masters from parameters in fp32, wherever these are. What computes stays, but where it is its own master.
    ///
    /// # Errors
    /// Parameters of other shapes.
    pub fn set_masters(&self, masters: &Parameters) -> Result<(), TchError> {
        masters.tensors().iter().enumerate().try_for_each(|(parameter, master)| self.set_master(parameter, master))
    }

    /// The same of one parameter, of which this rank may hold a part or nothing.
    ///
    /// # Errors
    /// A parameter of another shape.
    pub fn set_master(&self, parameter: usize, whole: &Tensor) -> Result<(), TchError> {
        for State { from, master, .. } in self.states.iter().filter(|state| state.parameter == parameter) {
            let all = whole.f_detach()?.f_view([-1])?;
            let held = all.f_narrow(0, *from, master.numel() as i64)?.f_view_as(master)?;
            tch::no_grad(|| master.shallow_clone().f_copy_(&held).map(drop))?;
        }
        Ok(())
    }

    /// What this rank holds of the masters: of which parameter, from which element on.
    pub fn masters(&self) -> impl Iterator<Item = (usize, i64, &Tensor)> {
        self.states.iter().map(|state| (state.parameter, state.from, &state.master))
    }

    /// Updates every parameter by its gradient at learning rate `lr`, unless the gradients or the scalar `loss` they belong
    /// to are not finite. `gradients` are aligned with the parameters.
    ///
    /// # Errors
    /// Gradients that do not match the parameters.
    pub fn step(&mut self, gradients: &[Tensor], loss: &Tensor, lr: f64) -> Result<Update, TchError> {
        let norm = self.norm(gradients)?;
        self.update(gradients, norm, loss, lr)
    }

    /// The norm of gradients: an fp32 scalar.
    ///
    /// # Errors
    /// Whatever libtorch refuses.
    pub fn norm(&self, gradients: &[Tensor]) -> Result<Tensor, TchError> {
        if gradients.is_empty() { self.step.f_zeros_like() } else { ffi::global_norm(gradients) }
    }

    /// The same where the global norm is known, of which these gradients may be a part.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn update(&mut self, gradients: &[Tensor], norm: Tensor, loss: &Tensor, lr: f64) -> Result<Update, TchError> {
        if gradients.len() != self.states.len() {
            return Err(TchError::Shape(format!("{} gradients for {} parameters", gradients.len(), self.states.len())));
        }
        let Settings { beta1, beta2, eps, weight_decay, clip_norm, .. } = self.settings;
        let skipped = (&norm + loss).f_isfinite()?.f_logical_not()?.f_to_kind(Kind::Float)?;
        // As clip_grad_norm_: the gradient times min(1, clip / (norm + 1e-6)), here as a divisor.
        let divisor = match clip_norm {
            Some(clip) => ((&norm + 1e-6) / clip).f_clamp_min(1.0)?,
            None => norm.f_ones_like()?,
        };
        let updates = &self.step + 1.0 - &skipped;
        let lr = norm.f_full_like(lr)?;
        let parameters = self.states.iter().zip(gradients).map(|(state, gradient)| AdamWParameter {
            gradient,
            master: &state.master,
            exp_avg: &state.exp_avg,
            exp_avg_sq: &state.exp_avg_sq,
            weight: state.weight.as_ref(),
            decays: state.decays,
        });
        let scalars = AdamWScalars { lr: &lr, step: &updates, divisor: &divisor, skipped: &skipped };
        let numbers = AdamWNumbers { beta1, beta2, eps, weight_decay };
        let parameters: Vec<_> = parameters.collect();
        if !parameters.is_empty() {
            ffi::adamw_step(&parameters, numbers, scalars)?;
        }
        // Not before: an update that libtorch refuses has changed nothing.
        self.step = updates;
        Ok(Update { norm, skipped })
    }

    /// Everything it remembers, by the names a checkpoint gives it, sharing storage: `step` (a scalar), and of each
    /// parameter `NAME.exp_avg`, `NAME.exp_avg_sq` and, where it is not its own master, `NAME.master`; of these what this rank
    /// holds. `specs` are the parameters it is over.
    #[must_use]
    pub fn slices(&self, specs: &[ParameterSpec]) -> Vec<Slice> {
        self.slices_with(specs, self.states.iter().any(|state| state.weight.is_some()))
    }

    /// The same with all masters or none, whatever computes here.
    #[must_use]
    pub fn slices_with(&self, specs: &[ParameterSpec], masters: bool) -> Vec<Slice> {
        let mut slices = vec![Slice::whole("step".to_owned(), self.step.shallow_clone())];
        for state in &self.states {
            let ParameterSpec { name, shape, .. } = &specs[state.parameter];
            let mut add = |what: &str, tensor: &Tensor| {
                let (name, tensor) = (format!("{name}.{what}"), tensor.shallow_clone());
                slices.push(Slice { name, shape: shape.clone(), from: state.from, tensor });
            };
            add("exp_avg", &state.exp_avg);
            add("exp_avg_sq", &state.exp_avg_sq);
            if masters {
                add("master", &state.master);
            }
        }
        slices
    }

    /// Makes every parameter that is not its own master that master, rounded: for when masters were filled from elsewhere.
    ///
    /// # Errors
    /// Whatever libtorch refuses.
    pub fn round_masters(&mut self) -> Result<(), TchError> {
        for state in &mut self.states {
            if let Some(weight) = &mut state.weight {
                tch::no_grad(|| weight.f_copy_(&state.master).map(drop))?;
            }
        }
        Ok(())
    }
}

impl State {
    fn new(held: Held, moments: Kind, decays: bool) -> Result<Self, TchError> {
        let Held { parameter, from, weight } = held;
        let weight = weight.f_detach()?;
        let zeros = |kind| Tensor::f_zeros(weight.size(), (kind, weight.device()));
        let (exp_avg, exp_avg_sq) = (zeros(moments)?, zeros(moments)?);
        let (master, weight) = match weight.kind() {
            Kind::Float => (weight, None),
            _ => (zeros(Kind::Float)?, Some(weight)),
        };
        Ok(Self { parameter, from, master, weight, exp_avg, exp_avg_sq, decays })
    }
}

/// The fused update beside its twin, of as many weights as one layer's MLP has.
pub(crate) fn twins(size: &Size) -> Vec<Twin> {
    const NUMBERS: AdamWNumbers = AdamWNumbers { beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1 };
    const LR: f64 = 1e-2;
    const STEP: f64 = 3.0;
    const DIVISOR: f64 = 2.0;
    let shape = [size.width, 3 * size.inner];
    // Master, gradient, moments; the second is a square.
    let fused = |x: &[Tensor]| {
        let state: Vec<_> = x.iter().map(|x| x.detach().to_kind(Kind::Float).copy()).collect();
        let square = state[3].square();
        let weight = x[0].detach().to_kind(Kind::BFloat16).copy();
        let [lr, step, divisor, skipped] =
            [LR, STEP, DIVISOR, 0.0].map(|value| Tensor::full([0_i64; 0], value, (Kind::Float, x[0].device())));
        let parameter = AdamWParameter {
            gradient: &x[1].detach(),
            master: &state[0],
            exp_avg: &state[2],
            exp_avg_sq: &square,
            weight: Some(&weight),
            decays: true,
        };
        ffi::adamw_step(
            &[parameter],
            NUMBERS,
            AdamWScalars { lr: &lr, step: &step, divisor: &divisor, skipped: &skipped },
        )?;
        let apart = &weight - state[0].to_kind(Kind::BFloat16);
        Ok(vec![state[0].shallow_clone(), state[2].shallow_clone(), square, apart + 1.0])
    };
    let plain = |x: &[Tensor]| {
        let AdamWNumbers { beta1, beta2, eps, weight_decay } = NUMBERS;
        let gradient = &x[1] / DIVISOR;
        let average = &x[2] * beta1 + &gradient * (1.0 - beta1);
        let square = x[3].square() * beta2 + gradient.square() * (1.0 - beta2);
        let denominator = (&square / (1.0 - beta2.powf(STEP))).sqrt() + eps;
        let master = &x[0] * (1.0 - LR * weight_decay) - &average / denominator * (LR / (1.0 - beta1.powf(STEP)));
        let none = master.ones_like();
        vec![master, average, square, none]
    };
    vec![Twin::new("adamw", &[&shape[..]; 4], fused, plain).without_gradients()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hf::names::Init;

    /// The second moment after 300 updates of a thousand weights by gradients of 0.1, on average.
    fn after_small_steps(moments: Kind) -> f64 {
        let specs = vec![ParameterSpec { name: "w".to_owned(), shape: vec![1000], init: Init::Ones, decay: false }];
        let ones = Tensor::ones([1000], (Kind::Float, Device::Cpu));
        let parameters = Parameters::new(specs, vec![ones.shallow_clone()]).unwrap();
        let settings = Settings { beta2: 0.999, weight_decay: 0.0, moments, clip_norm: None, ..Settings::default() };
        let mut optimizer = AdamW::new(&parameters, &parameters, settings).unwrap();
        let (gradient, loss) = (&ones * 0.1, Tensor::zeros([0_i64; 0], (Kind::Float, Device::Cpu)));
        for _ in 0..300 {
            optimizer.step(std::slice::from_ref(&gradient), &loss, 1e-3).unwrap();
        }
        optimizer.states[0].exp_avg_sq.mean(Kind::Double).double_value(&[])
    }

    #[test]
    fn moments_in_bf16_move_by_less_than_bf16_can_hold() {
        // 0.01 (1 - 0.999^300), by steps of a thousandth where bf16 tells numbers apart by 4 to 8 of them.
        let expected = 0.01 * (1.0 - 0.999_f64.powi(300));
        for (kind, tolerance) in [(Kind::Float, 1e-4), (Kind::BFloat16, 1e-2)] {
            let found = after_small_steps(kind);
            assert!((found - expected).abs() < tolerance * expected, "{kind:?}: {found}, expected {expected}");
        }
    }
}
