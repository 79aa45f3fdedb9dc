// The sum of what all invocations of a workgroup have.
struct Lane { thread: u32 }

fn sum_of_all(own: f32, lane: Lane) -> f32 {
    parts[lane.thread] = own;
    workgroupBarrier();
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        if lane.thread < half { parts[lane.thread] += parts[lane.thread + half]; }
        workgroupBarrier();
    }
    let sum = parts[0];
    workgroupBarrier();
    return sum;
}
