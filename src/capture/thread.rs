//! What a thread is inside of: a copy of the registry's span stack with each span's place in its
//! activity, and the buffers that the thread holds.
//!
//! Entering the first span of a request moves its buffer here, leaving the last moves it back; in
//! between, everything the request does on this thread is an append without a lock. The state is
//! borrowed while fields are recorded, so a callback inside a callback - a `Debug` that logs -
//! finds it taken and goes the slow way through the registry.

use std::cell::RefCell;
use std::sync::Arc;

use super::buffer::Buffer;
use super::callsite::Roles;
use super::panics;
use super::root::Root;

/// An index that is not known because another thread holds the buffer.
pub(super) const UNKNOWN: u32 = u32::MAX;

/// Where the current span stands.
#[derive(Debug, Clone, Copy)]
pub(super) enum Current {
    /// In an activity, at this place.
    Inside(Place),
    /// In no activity.
    Outside,
}

/// A span's place in its activity.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// The address of the activity's [`Root`].
    pub(super) key: usize,
    /// The span's index in the buffer, or that of its nearest recorded ancestor.
    pub(super) index: u32,
    /// Whether the index is the span's own.
    pub(super) own: bool,
}

#[derive(Debug)]
struct Entry {
    id: u64,
    layer: u32,
    /// The same span is already on the stack; the registry does not count it as current.
    duplicate: bool,
    place: Option<Place>,
}

/// A request that this thread is inside of.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) root: Arc<Root>,
    /// `None` when another thread holds it.
    pub(super) buffer: Option<Box<Buffer>>,
    key: usize,
    layer: u32,
    /// How often this thread has entered a span of it and not left it.
    pub(super) entries: u32,
}

impl Active {
    /// Applies what happened elsewhere, before anything is added here: so the order stays.
    #[inline]
    pub(super) fn catch_up(&mut self) {
        self.root.catch_up(&mut self.buffer);
    }

    /// The buffer, if it is this layer's and nothing happened elsewhere meanwhile.
    #[inline]
    fn at_hand(&mut self, layer: u32) -> Option<&mut Buffer> {
        if self.layer != layer || self.root.is_pending() {
            return None;
        }
        self.buffer.as_deref_mut()
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            self.root.check_in(buffer);
        }
    }
}

fn key(root: &Arc<Root>) -> usize {
    Arc::as_ptr(root) as usize
}

#[derive(Debug)]
pub(super) struct ThreadState {
    pub(super) roles: Roles,
    stack: Vec<Entry>,
    pub(super) actives: Vec<Active>,
    /// The root that began last on this thread: found here without the registry while its span is
    /// open, and free to serve another request when nobody else has it. So the parts of a layer that is
    /// gone stay until the thread serves another or ends.
    newest: Option<Arc<Root>>,
}

impl Drop for ThreadState {
    /// The thread is ending. If a layer is gone already, its last parts go now, and with them what
    /// the application gave it. A panic here would end the process.
    fn drop(&mut self) {
        let parts = (std::mem::take(&mut self.actives), self.newest.take());
        let _ = panics::caught(|| drop(parts));
    }
}

thread_local! {
    static THREAD: RefCell<ThreadState> = const {
        RefCell::new(ThreadState {
            roles: Roles::new(),
            stack: Vec::new(),
            actives: Vec::new(),
            newest: None,
        })
    };
}

/// Runs `f` on this thread's state; `None` when it is in use further up the stack, or gone
/// because the thread is ending.
#[inline]
pub(super) fn with_thread<R>(f: impl FnOnce(&mut ThreadState) -> R) -> Option<R> {
    THREAD.try_with(|state| state.try_borrow_mut().ok().map(|mut state| f(&mut state))).ok()?
}

/// Runs `f` on the root that began last on this thread, if the open span with this id is its root
/// span; else `None`. The thread's state is free meanwhile, and an `f` inside of `f` finds nothing.
#[inline]
pub(super) fn with_newest<R>(layer: u32, id: u64, f: impl FnOnce(&Arc<Root>) -> R) -> Option<R> {
    let root = with_thread(|thread| thread.newest.take_if(|root| root.is_of(layer, id)))??;
    let result = f(&root);
    put_newest(root);
    Some(result)
}

/// Remembers a root as the newest, unless there is a newer one.
#[inline]
fn put_newest(root: Arc<Root>) {
    let other = with_thread(|thread| match thread.newest {
        Some(_) => Some(root),
        None => thread.newest.replace(root),
    });
    // It may be the last of its root: not while this thread's state is borrowed.
    drop(other);
}

/// Gives back what this thread holds of this layer's requests, whose spans it stays inside of.
#[cold]
pub(super) fn release(layer: u32) {
    let held = with_thread(|thread| {
        let of_layer = thread.actives.iter_mut().filter(|active| active.layer == layer);
        let held = of_layer.filter_map(|it| Some((Arc::clone(&it.root), it.buffer.take()?)));
        held.collect::<Vec<_>>()
    });
    // It may seal the activity: not while this thread's state is borrowed.
    for (root, buffer) in held.into_iter().flatten() {
        root.entered();
        root.check_in(buffer);
    }
}

impl ThreadState {
    /// The root that began last on this thread, if the open span with this id is its root span.
    #[inline]
    pub(super) fn newest(&self, layer: u32, id: u64) -> Option<&Arc<Root>> {
        self.newest.as_ref().filter(|root| root.is_of(layer, id))
    }

    /// The root that began last on this thread, if the open span with this id is its root span in
    /// whatever layer.
    #[cfg(feature = "tower")]
    pub(super) fn newest_of_any(&self, id: u64) -> Option<Arc<Root>> {
        self.newest.clone().filter(|root| root.is_of(root.layer(), id))
    }

    /// The root that began last on this thread, if it is this layer's and over.
    #[inline]
    pub(super) fn take_spare(&mut self, layer: u32) -> Option<Arc<Root>> {
        self.newest.take_if(|root| root.layer() == layer && Arc::strong_count(root) == 1)
    }

    /// Remembers the root of a request that begins, instead of the last one.
    #[inline]
    pub(super) fn begun(&mut self, root: Arc<Root>) -> Option<Arc<Root>> {
        self.newest.replace(root)
    }

    /// Where the current span of this layer stands.
    #[inline]
    pub(super) fn current(&self, layer: u32) -> Current {
        let mut entries = self.stack.iter().rev();
        let current = entries.find(|entry| entry.layer == layer && !entry.duplicate);
        current.and_then(|entry| entry.place).map_or(Current::Outside, Current::Inside)
    }

    /// The place of a span that this thread is inside of.
    pub(super) fn entered(&self, layer: u32, id: u64) -> Option<Place> {
        let mut entries = self.stack.iter().rev();
        entries.find(|entry| entry.layer == layer && entry.id == id)?.place
    }

    /// The activity that the current span of a layer belongs to; the innermost, if several layers
    /// have one.
    pub(super) fn innermost(&mut self) -> Option<&mut Active> {
        let is_current = |at: usize, layer: u32| {
            !self.stack[at + 1..].iter().any(|newer| newer.layer == layer && !newer.duplicate)
        };
        let mut entries = self.stack.iter().enumerate().rev();
        let place = entries.find_map(|(at, entry)| {
            let place = entry.place.filter(|_| !entry.duplicate)?;
            is_current(at, entry.layer).then_some(place)
        })?;
        self.active(place.key)
    }

    #[inline]
    pub(super) fn active(&mut self, key: usize) -> Option<&mut Active> {
        let position = self.position(key)?;
        let active = self.actives.get_mut(position)?;
        active.catch_up();
        Some(active)
    }

    /// The activity of the current span unless it is the one with this key, and whether this thread is
    /// inside of its root span, too.
    #[cfg(feature = "tower")]
    #[inline]
    pub(super) fn other_than(&self, layer: u32, key: usize) -> Option<(Arc<Root>, bool)> {
        let Current::Inside(place) = self.current(layer) else { return None };
        if place.key == key {
            return None;
        }
        let root = &self.actives[self.position(place.key)?].root;
        let is_inside = self.stack.iter().any(|entry| root.is_of(layer, entry.id));
        Some((Arc::clone(root), is_inside))
    }

    /// The buffer of the activity whose root is the current span, if it is at hand.
    pub(super) fn at_root(&mut self, layer: u32) -> Option<&mut Buffer> {
        let Current::Inside(Place { key, index: 0, own: true }) = self.current(layer) else {
            return None;
        };
        let position = self.position(key)?;
        self.actives[position].at_hand(layer)
    }

    /// Where in the list the activity stands: nearly always last.
    #[inline]
    pub(super) fn position(&self, key: usize) -> Option<usize> {
        self.actives.iter().rposition(|active| active.key == key)
    }

    /// The usual way to enter: a span of the activity that this thread is in. `false` when it is
    /// none.
    #[inline]
    pub(super) fn enter(&mut self, layer: u32, id: u64) -> bool {
        let Some(active) = self.actives.last_mut() else { return false };
        active.catch_up();
        let Some(buffer) = &active.buffer else { return false };
        let found = if active.layer == layer { buffer.find(id) } else { None };
        let Some(index) = found else { return false };
        active.entries += 1;
        let place = Some(Place { key: active.key, index, own: true });
        let duplicate = self.is_entered(layer, id);
        self.stack.push(Entry { id, layer, duplicate, place });
        true
    }

    /// As [`enter`](Self::enter), where nothing has to be called for it: the span is among the
    /// newest. Such a path saves and restores nothing, and cannot panic. Its end is written out again
    /// because sharing it costs a call at every span.
    #[inline]
    pub(super) fn enter_newest(&mut self, layer: u32, id: u64) -> bool {
        let Some(active) = self.actives.last_mut() else { return false };
        let Some(buffer) = active.at_hand(layer) else { return false };
        let Some(index) = buffer.find_newest(id) else { return false };
        if self.stack.len() == self.stack.capacity() {
            return false;
        }
        active.entries += 1;
        let place = Some(Place { key: active.key, index, own: true });
        let duplicate = self.is_entered(layer, id);
        self.stack.push(Entry { id, layer, duplicate, place });
        true
    }

    /// Closes a span below the root where nothing has to be called for it: it is among the newest,
    /// and was entered and left.
    #[inline]
    pub(super) fn close_newest(&mut self, layer: u32, id: u64) -> bool {
        let Some(active) = self.actives.last_mut() else { return false };
        let Some(buffer) = active.at_hand(layer) else { return false };
        buffer.close_newest(id)
    }

    #[inline]
    fn is_entered(&self, layer: u32, id: u64) -> bool {
        self.stack.iter().any(|entry| entry.id == id && entry.layer == layer)
    }

    /// The buffer at hand that records this open span, and its index.
    #[inline]
    pub(super) fn find(&mut self, layer: u32, id: u64) -> Option<(&mut Active, u32)> {
        self.actives.iter_mut().rev().find_map(|active| {
            if active.layer != layer {
                return None;
            }
            active.catch_up();
            let index = active.buffer.as_ref()?.find(id)?;
            Some((active, index))
        })
    }

    /// The place of a span that a buffer at hand records.
    #[inline]
    pub(super) fn place_of(&mut self, layer: u32, id: u64) -> Option<Place> {
        self.find(layer, id).map(|(active, index)| Place { key: active.key, index, own: true })
    }

    /// Makes `root` an activity of this thread, with its buffer if it is free.
    pub(super) fn attach(&mut self, root: Arc<Root>) -> &mut Active {
        let (key, layer) = (key(&root), root.layer());
        let known = self.actives.iter().rposition(|active| active.key == key);
        let position = known.unwrap_or_else(|| {
            self.actives.push(Active { root, buffer: None, key, layer, entries: 0 });
            self.actives.len() - 1
        });
        let active = &mut self.actives[position];
        if active.buffer.is_none() {
            active.buffer = active.root.check_out();
        }
        active
    }

    /// The span was entered.
    #[inline]
    pub(super) fn push(&mut self, layer: u32, id: u64, place: Option<Place>) {
        if let Some(place) = place
            && let Some(active) = self.active(place.key)
        {
            active.entries += 1;
        }
        let duplicate = self.is_entered(layer, id);
        self.stack.push(Entry { id, layer, duplicate, place });
    }

    /// The span was left: its place, if it was entered here and belongs to an activity.
    #[inline]
    pub(super) fn pop(&mut self, layer: u32, id: u64) -> Option<Place> {
        let is_it = |entry: &Entry| entry.id == id && entry.layer == layer;
        if self.stack.last().is_some_and(is_it) {
            return self.stack.pop()?.place;
        }
        let position = self.stack.iter().rposition(is_it)?;
        self.stack.remove(position).place
    }
}
