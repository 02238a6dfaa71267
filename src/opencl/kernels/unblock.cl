/* SPDX-License-Identifier: Apache-2.0 */
/*
 * unblock.cl: rows of blocks back to numbers: 32 elements to each work item.
 *
 * Follows blocks.cl, with TN_WIDTH 1. Strides count bytes. src/opencl/cl_unblock.c fills the struct.
 */
#define DIMS 7

typedef struct unblock {
    long units, rows; /* of a row; rows */
    long extent[DIMS]; /* of the dimensions of rows, outermost first */
    long x_start, x_row[DIMS];
    long y_start, y_row[DIMS], y_step;
    int rank, x_type, y_type, reserved;
} unblock;

__kernel void unblock_units(source x, target y, const unblock u) {
    const long unit = get_global_id(0), row = get_global_id(1);
    const int kind = unit_kind(u.x_type);
    long from = u.x_start, to = u.y_start, index = row;
    blocks b;
    SV s, second;
    if (unit >= u.units || row >= u.rows)
        return;
    for (int d = u.rank - 1; d >= 0; d--) {
        from += index % u.extent[d] * u.x_row[d];
        to += index % u.extent[d] * u.y_row[d];
        index /= u.extent[d];
    }
    b.lane[0] = 0;
    const int r = blocks_to(&b, x + from, u.x_type, unit * UNIT);
    unit_scales(&b, u.x_type, r, &s, &second);
    for (int i = 0; i < FOURS; i++) {
        const UV four = unit_four(&b, u.x_type, r, i);
        for (int t = 0; t < 4; t++)
            put(y + to + (unit * UNIT + 4 * i + t) * u.y_step, u.y_type,
                unit_element(kind, s, second, four, i, t));
    }
}
