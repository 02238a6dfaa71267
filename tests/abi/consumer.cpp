// SPDX-License-Identifier: Apache-2.0
// A C++11 program outside the source tree, built against an installed tenon by check_consumers.py.
#include <tenon/tenon.h>

#include <iostream>
#include <memory>
#include <vector>

struct Destroy {
    void operator()(tenon_context *ctx) const { tenon_context_destroy(ctx); }
};

int main()
{
    tenon_context *raw = nullptr;
    if (tenon_context_create(nullptr, &raw) != TENON_OK) {
        std::cerr << tenon_error_message(nullptr) << '\n';
        return 2;
    }
    const std::unique_ptr<tenon_context, Destroy> ctx(raw);

    std::vector<float> x = {0, 0, 0, 0}, y(4);
    tenon_softmax_desc softmax = {};
    softmax.x = tenon_vector(x.data(), TENON_F32, 4);
    softmax.y = tenon_vector(y.data(), TENON_F32, 4);
    if (tenon_softmax(ctx.get(), &softmax) != TENON_OK) {
        std::cerr << tenon_error_message(ctx.get()) << '\n';
        return 3;
    }
    for (float value : y)
        if (value != 0.25f) return 4;
    std::cout << tenon_context_device(ctx.get(), 0) << '\n';
    return 0;
}
