// The sum of what all invocations of a row have.
struct Lane { row: u32, number: u32 }

fn sum_of_all(own: f32, lane: Lane) -> f32 {
    let first = lane.row * LANES;
    parts[first + lane.number] = own;
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        if lane.number < half { parts[first + lane.number] += parts[first + lane.number + half]; }
        workgroupBarrier();
    }
    let sum = parts[first];
    workgroupBarrier();
    return sum;
}
