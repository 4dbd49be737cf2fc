//! Several copies of a model, each on a device of its own, that train as one: items are shared out, token vectors gathered,
//! gradients added up. So every device's pages are negatives for every device's queries.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use candle_core::Device;

use crate::Error;
use crate::encode::{Encode, Parameter, Place, Side};
use crate::grad_cache::spawn_on_large_stack;
use crate::gradients::Gradients;
use crate::maxsim::Packed;

/// Copies of a model. The first one's parameters are those that the optimiser moves; the others take them over at the first
/// pass of every step. Give each step's mini-batch as many items as all devices together can hold.
#[derive(Debug)]
pub struct Replicas<E> {
    replicas: Vec<E>,
    /// Where vectors and gradients are gathered.
    home: Device,
    /// The step whose weights the copies have.
    step: Mutex<Option<u64>>,
}

impl<E: Encode> Replicas<E> {
    /// Lets `replicas`, the first on the device `home`, train as one.
    ///
    /// # Errors
    /// There is none, or their parameters differ in name or shape.
    pub fn new(replicas: Vec<E>, home: Device) -> Result<Self, Error> {
        let Some(first) = replicas.first() else {
            return Err(Error::setting("replicas", "at least one", 0));
        };
        let signature = |replica: &E| {
            let of = |parameter: &Parameter| (parameter.name.clone(), parameter.var.dims().to_vec());
            replica.parameters().iter().map(of).collect::<Vec<_>>()
        };
        let expected = signature(first);
        for replica in &replicas {
            let received = signature(replica);
            if let Some(at) = (0..expected.len().max(received.len())).find(|at| expected.get(*at) != received.get(*at))
            {
                let text = |parameter: Option<&(String, Vec<usize>)>| format!("{parameter:?}");
                return Err(Error::shape("parameter of a replica", text(expected.get(at)), text(received.get(at))));
            }
        }
        Ok(Self { replicas, home, step: Mutex::new(None) })
    }

    /// Gives all copies the weights of the first.
    ///
    /// # Errors
    /// A device fails.
    pub fn synchronise(&self) -> Result<(), Error> {
        let Some((first, others)) = self.replicas.split_first() else { return Ok(()) };
        for replica in others {
            for (from, to) in first.parameters().iter().zip(replica.parameters()) {
                to.var.set(&from.var.as_detached_tensor().to_device(to.var.device())?)?;
            }
        }
        Ok(())
    }

    fn synchronise_at(&self, step: u64) -> Result<(), Error> {
        let mut last = self.step.lock().unwrap_or_else(PoisonError::into_inner);
        if *last != Some(step) {
            self.synchronise()?;
            *last = Some(step);
        }
        Ok(())
    }

    /// What each replica makes of its share of `items`, in order.
    fn share_out<T: Send>(
        &self,
        items: &[E::Item],
        work: impl Fn(&E, Range<usize>) -> Result<T, Error> + Sync,
    ) -> Result<Vec<T>, Error> {
        let share = items.len().div_ceil(self.replicas.len()).max(1);
        let shares = (0..items.len()).step_by(share).map(|first| first..items.len().min(first + share));
        let work = &work;
        std::thread::scope(|scope| {
            let threads: Vec<_> = self
                .replicas
                .iter()
                .zip(shares)
                .map(|(replica, rows)| spawn_on_large_stack(scope, move || work(replica, rows)))
                .collect::<Result<_, Error>>()?;
            let join = |thread: std::thread::ScopedJoinHandle<'_, Result<T, Error>>| {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            threads.into_iter().map(join).collect()
        })
    }

    fn gather(&self, shares: Vec<Packed>) -> Result<Packed, Error> {
        let moved = |packed: Packed| packed.items_on(0..packed.items(), &self.home);
        Packed::cat(&shares.into_iter().map(moved).collect::<Result<Vec<_>, Error>>()?)
    }
}

/// Where a share that begins at row `rows.start` of a mini-batch stands.
fn place_of(place: Place, rows: &Range<usize>) -> Place {
    Place { first_row: place.first_row + rows.start as u64, ..place }
}

impl<E: Encode> Encode for Replicas<E> {
    type Item = E::Item;

    fn parameters(&self) -> &[Parameter] {
        self.replicas.first().map_or(&[], Encode::parameters)
    }

    fn encode(&self, items: &[Self::Item], side: Side, place: Place) -> Result<Packed, Error> {
        // A graph over several devices would lead to the copies' parameters: the first one encodes all.
        match self.replicas.first() {
            Some(first) => first.encode(items, side, place),
            None => Err(Error::setting("replicas", "at least one", 0)),
        }
    }

    fn vectors(&self, items: &[Self::Item], side: Side, place: Place) -> Result<Packed, Error> {
        self.synchronise_at(place.step)?;
        let vectors =
            |replica: &E, rows: Range<usize>| replica.vectors(&items[rows.clone()], side, place_of(place, &rows));
        self.gather(self.share_out(items, vectors)?)
    }

    fn lead(
        &self,
        items: &[Self::Item],
        side: Side,
        place: Place,
        slopes: &Packed,
        gradients: &mut Gradients,
    ) -> Result<Packed, Error> {
        self.synchronise_at(place.step)?;
        let count = self.parameters().len();
        let lead = |replica: &E, rows: Range<usize>| {
            let mut own = Gradients::none(count);
            let device = replica.parameters().first().map_or(&Device::Cpu, |parameter| parameter.var.device());
            let slopes = slopes.items_on(rows.clone(), device)?;
            let vectors = replica.lead(&items[rows.clone()], side, place_of(place, &rows), &slopes, &mut own)?;
            Ok((vectors, own))
        };
        let mut shares = Vec::new();
        for (vectors, own) in self.share_out(items, lead)? {
            gradients.add_all(&own, &self.home)?;
            shares.push(vectors);
        }
        self.gather(shares)
    }
}
