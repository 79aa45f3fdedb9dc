// The sum of what all invocations of a workgroup have: within subgroups, then of these.
struct Lane { number: u32, group: u32, groups: u32, within: u32 }

fn sum_of_all(own: f32, lane: Lane) -> f32 {
    let some = subgroupAdd(own);
    if lane.within == 0u { parts[lane.group] = some; }
    workgroupBarrier();
    var sum = 0.0;
    for (var i = 0u; i < lane.groups; i++) { sum += parts[i]; }
    workgroupBarrier();
    return sum;
}
