//! Whoever starts, in whatever state: who creates, who waits, who is refused, and the words for it.

use super::*;

const ALL: [NodeId; 3] = [1, 2, 3];

/// Groups 0 and 1, by what the disk holds of them.
const FRESH: &[u32] = &[0, 1];
const HALF: &[u32] = &[1];
const OLD: &[u32] = &[];

fn groups(ids: &[u32]) -> BTreeSet<GroupId> {
    ids.iter().map(|id| GroupId(*id)).collect()
}

fn welcome(fresh: &[u32], nodes: &[NodeId]) -> Answer {
    Answer::Welcome { fresh: groups(fresh), nodes: nodes.iter().copied().collect() }
}

fn up(fresh: &[u32]) -> Answer {
    welcome(fresh, &ALL)
}

fn failed(why: &str) -> Answer {
    Answer::Failed(why.to_owned())
}

/// `crate::peer` has the words for it.
fn replaced() -> Answer {
    Answer::ReplacedDisk("another disk".to_owned())
}

fn decide(me: NodeId, fresh: &[u32], answers: &[(NodeId, Answer)]) -> String {
    let answers = answers.iter().cloned().collect();
    match step(me, &groups(fresh), &BTreeSet::from(ALL), &answers) {
        Step::Done => "done".to_owned(),
        Step::Create(groups) => {
            format!("CREATE {:?}", groups.iter().map(|g| g.0).collect::<Vec<_>>())
        }
        Step::Wait(waiting) => format!("wait: {waiting}"),
        Step::Refuse(why) => format!("refuse: {why}"),
    }
}

/// (what, this node, its fresh groups, the answers, the decision)
type Case<'a> = (&'a str, NodeId, &'a [u32], &'a [(NodeId, Answer)], &'a str);

fn check(cases: &[Case<'_>]) {
    for (name, me, fresh, answers, expected) in cases {
        assert_eq!(decide(*me, fresh, answers), *expected, "{name}");
    }
}

const FOR_1: &str = "wait: node 1 has the lowest id and creates it when all nodes are up";

#[test]
fn the_lowest_creates_when_all_are_up() {
    check(&[
        (
            "nobody asked yet",
            1,
            FRESH,
            &[],
            "wait: all nodes have to be up and agree; node 2: not asked yet; node 3: not asked yet",
        ),
        (
            "one is down",
            1,
            FRESH,
            &[(2, up(FRESH)), (3, failed("connection refused"))],
            "wait: all nodes have to be up and agree; node 3: connection refused",
        ),
        ("all up", 1, FRESH, &[(2, up(FRESH)), (3, up(FRESH))], "CREATE [0, 1]"),
        ("all up, seen by another", 2, FRESH, &[(1, up(FRESH)), (3, up(FRESH))], FOR_1),
        ("no other is up", 3, FRESH, &[(1, failed("x")), (2, failed("x"))], FOR_1),
    ]);
    let alone = BTreeSet::from([4]);
    let step = step(4, &groups(FRESH), &alone, &BTreeMap::new());
    assert_eq!(step, Step::Create(groups(FRESH)), "a cluster of one");
}

#[test]
fn a_cluster_that_exists_is_never_created() {
    check(&[
        ("restart", 1, OLD, &[], "done"),
        ("restart beside fresh disks", 1, OLD, &[(2, up(FRESH)), (3, up(FRESH))], "done"),
        (
            "it has called others already",
            3,
            FRESH,
            &[(1, up(OLD)), (2, up(OLD))],
            "wait: nodes 1, 2 have a cluster; it has to call or add this node",
        ),
    ]);
}

#[test]
fn a_wiped_disk_is_refused() {
    let refused = "refuse: another disk";
    check(&[
        ("creator", 1, FRESH, &[(2, replaced()), (3, replaced())], refused),
        ("creator, and one more was wiped", 1, FRESH, &[(2, up(FRESH)), (3, replaced())], refused),
        ("follower", 3, FRESH, &[(1, replaced()), (2, failed("x"))], refused),
        ("swapped with a half-created one", 1, HALF, &[(2, replaced()), (3, up(OLD))], refused),
    ]);
}

/// However often it is started: that a Hello was said before changes nothing.
#[test]
fn a_fresh_disk_that_nobody_recognises_creates_nothing_beside_a_history() {
    let wait = |nodes: &str| format!("wait: {nodes} a cluster; it has to call or add this node");
    check(&[
        ("all have one", 1, FRESH, &[(2, up(OLD)), (3, up(OLD))], &wait("nodes 2, 3 have")),
        ("one has one", 1, FRESH, &[(2, up(FRESH)), (3, up(OLD))], &wait("node 3 has")),
        ("one has half of one", 1, FRESH, &[(2, up(FRESH)), (3, up(HALF))], &wait("node 3 has")),
        ("others down", 1, FRESH, &[(2, failed("x")), (3, up(OLD))], &wait("node 3 has")),
        // A new node with the lowest id, which the cluster has taken into one of its groups so far.
        ("taken in half-way", 1, HALF, &[(2, up(OLD)), (3, up(OLD))], &wait("nodes 2, 3 have")),
    ]);
}

#[test]
fn a_half_created_cluster_is_finished() {
    check(&[
        ("others called", 1, HALF, &[(2, up(HALF)), (3, up(HALF))], "CREATE [1]"),
        ("nobody called", 1, HALF, &[(2, up(FRESH)), (3, up(FRESH))], "CREATE [1]"),
        (
            "one is down",
            1,
            HALF,
            &[(2, up(HALF)), (3, failed("connection refused"))],
            "wait: all nodes have to be up and agree; node 3: connection refused",
        ),
        ("seen by another", 2, HALF, &[(1, up(HALF)), (3, up(FRESH))], FOR_1),
    ]);
}

#[test]
fn configurations_that_differ_create_nothing_and_say_why() {
    check(&[
        (
            "cluster id typo",
            1,
            FRESH,
            &[(2, up(FRESH)), (3, failed("cluster id a is not b"))],
            "wait: all nodes have to be up and agree; node 3: cluster id a is not b",
        ),
        (
            "group count",
            1,
            FRESH,
            &[(2, failed("set up with 2 groups, node 2 with 1")), (3, up(FRESH))],
            "wait: all nodes have to be up and agree; node 2: set up with 2 groups, node 2 with 1",
        ),
        (
            "another list of nodes",
            1,
            FRESH,
            &[(2, welcome(FRESH, &[2, 3])), (3, up(FRESH))],
            "wait: all nodes have to be up and agree; node 2: its configuration lists nodes 2, 3, \
             this one's 1, 2, 3; the list must be the same everywhere",
        ),
    ]);
}

/// Every world of three nodes and two groups: each group on each disk fresh or not, each list one
/// of four, each pair able to talk or not. No group has two creators, and none is created while a
/// node of the list holds anything of it.
#[test]
fn one_creator_and_one_history_in_every_world() {
    let lists: [&[NodeId]; 4] = [&[1, 2, 3], &[2, 3], &[1, 3], &[1, 2]];
    let disks: [&[u32]; 4] = [FRESH, HALF, &[0], OLD];
    let mut created = 0;
    for world in 0..(4 * 4usize).pow(3) * 8 {
        let mut rest = world;
        let mut next = |of: usize| {
            let digit = rest % of;
            rest /= of;
            digit
        };
        let nodes: Vec<(NodeId, BTreeSet<GroupId>, BTreeSet<NodeId>)> = ALL
            .iter()
            .map(|id| (*id, groups(disks[next(4)]), lists[next(4)].iter().copied().collect()))
            .collect();
        let links = [next(2), next(2), next(2)];
        // 1 + 2, 1 + 3 and 2 + 3 tell the pairs apart.
        let talk = |a: NodeId, b: NodeId| links[(a + b - 3) as usize] == 1;
        let mut creators = BTreeMap::new();
        for (me, mine, list) in nodes.iter().filter(|(me, _, list)| list.contains(me)) {
            let others = nodes.iter().filter(|(id, ..)| id != me && list.contains(id));
            let answers = others.map(|(id, fresh, list)| {
                let answer = if talk(*me, *id) {
                    Answer::Welcome { fresh: fresh.clone(), nodes: list.clone() }
                } else {
                    failed("no way")
                };
                (*id, answer)
            });
            let Step::Create(groups) = step(*me, mine, list, &answers.collect()) else { continue };
            for group in groups {
                created += 1;
                let before = creators.insert(group, *me);
                assert_eq!(before, None, "{nodes:?} {links:?}: {me} also creates {group:?}");
                let mut members = nodes.iter().filter(|(id, ..)| list.contains(id));
                assert!(members.all(|(_, fresh, _)| fresh.contains(&group)), "{nodes:?}: {me}");
            }
        }
    }
    assert!(created > 100, "the worlds are too few to show anything: {created}");
}
