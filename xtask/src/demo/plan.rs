//! The customers and what they will do, decided before the first of them comes.
//!
//! A plan is a pure function of its seed, and holds exactly as many requests as were asked for:
//! every [`Step`] is one request. The first visits are a tour of everything that can happen, so
//! that a short demo shows it too; after it chance decides.

use std::time::Duration;

use super::draw::Draw;
use super::journeys::{JOURNEYS, Journey, Kind};
use super::step::Step;

/// One person, or machine, with one connection.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Visit {
    /// When it begins, counted from the beginning of the deploy.
    pub(crate) starts: Duration,
    /// `User-Agent`.
    pub(crate) agent: &'static str,
    /// `Referer` of the first request.
    pub(crate) referer: Option<&'static str>,
    /// What it does, in this order.
    pub(crate) steps: Vec<Step>,
}

/// How a plan is drawn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale {
    /// Requests in all.
    pub(crate) requests: usize,
    /// Time over which visits begin.
    pub(crate) spread: Duration,
    pub(crate) seed: u64,
}

/// Draws the visits of one deploy.
pub(crate) fn visits(scale: Scale) -> Vec<Visit> {
    let mut draw = Draw::new(scale.seed, scale.spread);
    let mut visits = Vec::new();
    let mut left = scale.requests;
    let mut tour = JOURNEYS.iter();
    while left > 0 {
        let (kind, journey) = match tour.next() {
            Some(&(kind, _, journey)) => (kind, journey),
            None => any_journey(&mut draw),
        };
        let mut steps = journey(&mut draw);
        steps.truncate(left);
        left -= steps.len();
        visits.push(Visit {
            starts: draw.start(),
            agent: agent(&mut draw, kind),
            referer: (kind == Kind::Person).then(|| referer(&mut draw)).flatten(),
            steps,
        });
    }
    visits
}

const PEOPLE: [&str; 5] = [
    "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 19_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/19.1 Mobile/15E148 Safari/604.1",
    "ShopApp/3.2 (Android 16)",
    "ShopApp/3.3 (iOS 19.1)",
];
const ROBOTS: [&str; 2] = ["price-watch/1.4", "curl/8.16.0"];
const PROBE: &str = "load-balancer-probe/1.0";
const REFERERS: [&str; 3] =
    ["https://search.example/?q=teapot", "https://blog.example/gifts", "https://social.example/"];

fn any_journey(draw: &mut Draw) -> (Kind, Journey) {
    let total: u32 = JOURNEYS.iter().map(|&(_, weight, _)| weight).sum();
    let mut at = draw.rng.u32(..total);
    for (kind, weight, journey) in JOURNEYS {
        if at < weight {
            return (kind, journey);
        }
        at -= weight;
    }
    unreachable!("{at} is within the sum of the weights")
}

fn agent(draw: &mut Draw, kind: Kind) -> &'static str {
    match kind {
        Kind::Person => PEOPLE[draw.rng.usize(..PEOPLE.len())],
        Kind::Robot => ROBOTS[draw.rng.usize(..ROBOTS.len())],
        Kind::Probe => PROBE,
    }
}

/// Every second person comes from somewhere.
fn referer(draw: &mut Draw) -> Option<&'static str> {
    REFERERS.get(draw.rng.usize(..REFERERS.len() * 2)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::step::Call;

    fn scale(requests: usize, seed: u64) -> Scale {
        Scale { requests, spread: Duration::from_secs(10), seed }
    }

    #[test]
    fn a_plan_has_exactly_the_requests_asked_for() {
        for requests in [0, 1, 2, 57, 2000, 2001] {
            let steps: usize = visits(scale(requests, 3)).iter().map(|it| it.steps.len()).sum();
            assert_eq!(steps, requests);
        }
    }

    #[test]
    fn a_plan_is_a_function_of_its_seed() {
        assert_eq!(visits(scale(500, 1)), visits(scale(500, 1)));
        assert_ne!(visits(scale(500, 1)), visits(scale(500, 2)));
    }

    #[test]
    fn a_plan_of_a_hundred_requests_holds_every_manner_of_leaving() {
        let visits = visits(scale(100, 1));
        let calls = || visits.iter().flat_map(|visit| &visit.steps).map(|step| &step.call);
        assert!(calls().any(|call| matches!(call, Call::LeaveWaiting { .. })));
        assert!(calls().any(|call| matches!(call, Call::LeaveReading(_))));
        assert!(calls().any(|call| matches!(call, Call::Follow)));
    }

    #[test]
    fn visits_begin_within_the_time_given() {
        assert!(visits(scale(2000, 1)).iter().all(|it| it.starts <= Duration::from_secs(10)));
    }

    #[test]
    fn a_broken_page_is_never_asked_for_as_if_it_would_answer() {
        let broken = "/products/13";
        for visit in visits(scale(4000, 1)) {
            assert!(visit.steps.iter().all(|step| step.call != Call::Get(broken.to_owned())));
        }
    }
}
