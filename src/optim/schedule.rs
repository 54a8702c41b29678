//! The learning rate as a pure function of the step. Free of libtorch.

/// How a rate falls: the share of the way from floor to peak that is left, over the fraction `x` of the decay done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decay {
    /// `1 - x`
    Linear,
    /// `(1 + cos(pi x)) / 2` (Loshchilov & Hutter 2017, arXiv 1608.03983)
    Cosine,
    /// `2 * 0.5^x - 1`
    Exponential,
    /// `1 - sqrt(x)` (Hägele et al. 2024, arXiv 2405.18392)
    MinusSqrt,
}

/// What follows the warm-up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    /// The peak, to the end.
    Constant,
    /// From peak to floor, over all steps that are left.
    Decay(Decay),
    /// Warm-up, stable, decay (WSD; Hu et al. 2024, arXiv 2404.06395): the peak, then to the floor in the last steps.
    Wsd {
        /// Steps of the decay.
        steps: u64,
        /// Its form.
        decay: Decay,
    },
    /// A schedule that a later run can go on from (Ibrahim et al. 2024, arXiv 2403.08763): from the peak down to a
    /// constant, that constant, then to the floor in the last steps.
    Infinite {
        /// Steps from the peak to the constant, along a cosine.
        cooldown: u64,
        /// The constant.
        constant: f64,
        /// Steps of the final anneal, 0 for a run that others go on from.
        anneal: u64,
        /// The form of the anneal.
        decay: Decay,
    },
}

/// What a schedule is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Optimizer steps in all.
    pub steps: u64,
    /// Rate that the warm-up starts from: 0, or where the stage before ended.
    pub start: f64,
    /// Highest rate.
    pub peak: f64,
    /// Lowest rate after the warm-up.
    pub floor: f64,
    /// Steps from `start` to `peak`, in even increments.
    pub warmup: u64,
    /// What follows.
    pub shape: Shape,
}

/// Settings that make no schedule.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ScheduleError {
    /// A rate that is negative, infinite or no number.
    #[error("{name} is {value}: a learning rate is a finite number of 0 or more")]
    Rate {
        /// Which.
        name: &'static str,
        /// As given.
        value: f64,
    },
    /// Rates in the wrong order.
    #[error("{low} {low_value} is above {high} {high_value}")]
    Order {
        /// What must be lower.
        low: &'static str,
        /// Its value.
        low_value: f64,
        /// What must be higher.
        high: &'static str,
        /// Its value.
        high_value: f64,
    },
    /// Phases longer than the whole.
    #[error("warm-up and decay take {phases} steps, and there are {steps}: shorten them or train longer")]
    TooLong {
        /// Steps of all phases of given length.
        phases: u128,
        /// Steps in all.
        steps: u64,
    },
}

/// A learning rate for every step.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule(Settings);

impl Decay {
    /// The share left at fraction `x` of the decay: 1 at 0, 0 at 1.
    #[must_use]
    pub fn at(self, x: f64) -> f64 {
        match self {
            Self::Linear => 1.0 - x,
            Self::Cosine => f64::midpoint(1.0, (std::f64::consts::PI * x).cos()),
            Self::Exponential => 2.0 * 0.5_f64.powf(x) - 1.0,
            Self::MinusSqrt => 1.0 - x.sqrt(),
        }
    }

    /// From `high` to `low` over `length` steps, `done` of them behind.
    fn between(self, high: f64, low: f64, done: u64, length: u64) -> f64 {
        if done >= length {
            return low;
        }
        (low + (high - low) * self.at(done as f64 / length as f64)).clamp(low, high)
    }
}

impl Schedule {
    /// Checks settings.
    ///
    /// # Errors
    /// Rates that are no rates or in the wrong order, or phases that do not fit into the steps.
    pub fn new(settings: Settings) -> Result<Self, ScheduleError> {
        let Settings { steps, start, peak, floor, warmup, shape } = settings;
        let constant = if let Shape::Infinite { constant, .. } = shape { constant } else { peak };
        for (name, value) in [("start", start), ("peak", peak), ("floor", floor), ("constant", constant)] {
            if !value.is_finite() || value < 0.0 {
                return Err(ScheduleError::Rate { name, value });
            }
        }
        let orders = [
            ("floor", floor, "peak", peak),
            ("floor", floor, "constant", constant),
            ("constant", constant, "peak", peak),
        ];
        for (low, low_value, high, high_value) in orders {
            if low_value > high_value {
                return Err(ScheduleError::Order { low, low_value, high, high_value });
            }
        }
        let phases = u128::from(warmup)
            + match shape {
                Shape::Constant | Shape::Decay(_) => 0,
                Shape::Wsd { steps, .. } => u128::from(steps),
                Shape::Infinite { cooldown, anneal, .. } => u128::from(cooldown) + u128::from(anneal),
            };
        if phases > u128::from(steps) {
            return Err(ScheduleError::TooLong { phases, steps });
        }
        Ok(Self(settings))
    }

    /// What it was made of.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.0
    }

    /// The rate of the update at `step`, counted from 0. At the number of steps itself it is the rate that a stage which
    /// continues this one begins with; later steps keep it.
    #[must_use]
    pub fn rate(&self, step: u64) -> f64 {
        let Settings { steps, start, peak, floor, warmup, shape } = self.0;
        if step < warmup {
            return start + (peak - start) * ((step + 1) as f64 / warmup as f64);
        }
        // The last phase of `length` steps, once it has begun.
        let ending = |length: u64| step.checked_sub(steps - length);
        match shape {
            Shape::Constant => peak,
            Shape::Decay(decay) => decay.between(peak, floor, step - warmup, steps - warmup),
            Shape::Wsd { steps: length, decay } => {
                ending(length).map_or(peak, |done| decay.between(peak, floor, done, length))
            }
            Shape::Infinite { anneal, constant, decay, .. } if anneal > 0 && step >= steps - anneal => {
                decay.between(constant, floor, step - (steps - anneal), anneal)
            }
            Shape::Infinite { cooldown, constant, .. } => {
                Decay::Cosine.between(peak, constant, step - warmup, cooldown)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DECAYS: [Decay; 4] = [Decay::Linear, Decay::Cosine, Decay::Exponential, Decay::MinusSqrt];

    fn schedule(shape: Shape) -> Schedule {
        Schedule::new(Settings { steps: 100, start: 0.0, peak: 1.0, floor: 0.1, warmup: 10, shape }).unwrap()
    }

    fn rates(shape: Shape, steps: &[u64]) -> Vec<f64> {
        steps.iter().map(|step| (schedule(shape).rate(*step) * 1e4).round() / 1e4).collect()
    }

    #[test]
    fn the_warm_up_rises_evenly_and_its_last_step_has_the_peak() {
        assert_eq!(rates(Shape::Constant, &[0, 4, 9, 10, 99, 1000]), [0.1, 0.5, 1.0, 1.0, 1.0, 1.0]);
        let rewarmed = Settings { steps: 9, start: 0.2, peak: 1.0, floor: 0.0, warmup: 4, shape: Shape::Constant };
        assert!((Schedule::new(rewarmed).unwrap().rate(1) - 0.6).abs() < 1e-12);
    }

    #[test]
    fn each_shape_has_its_published_values() {
        let at = [10, 55, 100];
        assert_eq!(rates(Shape::Decay(Decay::Linear), &at), [1.0, 0.55, 0.1]);
        assert_eq!(rates(Shape::Decay(Decay::Cosine), &at), [1.0, 0.55, 0.1]);
        assert_eq!(rates(Shape::Decay(Decay::Exponential), &at), [1.0, 0.4728, 0.1]);
        assert_eq!(rates(Shape::Decay(Decay::MinusSqrt), &at), [1.0, 0.3636, 0.1]);
        let wsd = Shape::Wsd { steps: 20, decay: Decay::Linear };
        assert_eq!(rates(wsd, &[79, 80, 90, 100]), [1.0, 1.0, 0.55, 0.1]);
        let infinite = Shape::Infinite { cooldown: 20, constant: 0.4, anneal: 10, decay: Decay::Linear };
        assert_eq!(rates(infinite, &[10, 20, 30, 89, 90, 95, 100]), [1.0, 0.7, 0.4, 0.4, 0.4, 0.25, 0.1]);
        let open = Shape::Infinite { cooldown: 20, constant: 0.4, anneal: 0, decay: Decay::Linear };
        assert_eq!(rates(open, &[99, 100]), [0.4, 0.4]);
    }

    #[test]
    fn settings_that_make_no_schedule_are_refused() {
        let with = |change: fn(&mut Settings)| {
            let mut settings = schedule(Shape::Wsd { steps: 20, decay: Decay::Linear }).0;
            change(&mut settings);
            Schedule::new(settings).unwrap_err().to_string()
        };
        assert_eq!(
            with(|s| s.warmup = 81),
            "warm-up and decay take 101 steps, and there are 100: shorten them or train longer"
        );
        assert_eq!(with(|s| s.floor = 2.0), "floor 2 is above peak 1");
        assert_eq!(with(|s| s.peak = f64::NAN), "peak is NaN: a learning rate is a finite number of 0 or more");
        assert_eq!(with(|s| s.start = -1.0), "start is -1: a learning rate is a finite number of 0 or more");
        with(|s| s.warmup = u64::MAX);
    }

    proptest! {
        #[test]
        fn after_the_warm_up_a_rate_never_rises_nor_leaves_its_bounds(
            (steps, warmup, first, last) in (1_u64..300).prop_flat_map(|steps| {
                let part = 0..=steps / 3;
                (Just(steps), part.clone(), part.clone(), part)
            }),
            (floor, constant, peak) in (0.0..1.0, 1.0..2.0, 2.0..3.0),
            decay in prop::sample::select(&DECAYS[..]),
        ) {
            for shape in [
                Shape::Constant,
                Shape::Decay(decay),
                Shape::Wsd { steps: last, decay },
                Shape::Infinite { cooldown: first, constant, anneal: last, decay },
            ] {
                let schedule = Schedule::new(Settings { steps, start: 0.0, peak, floor, warmup, shape }).unwrap();
                let rates: Vec<_> = (0..=steps).map(|step| schedule.rate(step)).collect();
                prop_assert!(rates[warmup as usize..].iter().all(|rate| (floor..=peak).contains(rate)));
                prop_assert!(rates[warmup as usize..].windows(2).all(|pair| pair[1] <= pair[0]));
                prop_assert!(rates[..warmup as usize].windows(2).all(|pair| pair[0] < pair[1]));
            }
        }
    }
}
