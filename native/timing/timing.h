#ifndef DEKD_TIMING_H_
#define DEKD_TIMING_H_

#include <cstddef>
#include <cstdint>
#include <functional>

namespace dekd::timing {

// A measurement of one comparison: whether its time depends on what it is given.
//
// After Reparaz, Balasch and Verbauwhede, "Dude, is my code constant time?" (2017): two classes of inputs, right up to the
// last byte and wrong from the first one, mixed at random; the time of each call; Welch's t between the classes, over all
// samples and over those below each of 100 percentiles, because what delays a call from outside only ever adds. An |t|
// over 4.5 says that the classes differ; below it, that so many samples show no difference.
struct Measured final {
  size_t samples = 0;
  double max_t = 0;
};

// prepare(class) makes the next input, unmeasured; call() is measured. The first tenth only finds the percentiles.
struct Subject final {
  const char* name;
  std::function<void(bool right)> prepare;
  std::function<void()> call;
};

Measured measure(const Subject& subject, size_t samples, uint64_t seed);

}  // namespace dekd::timing

#endif  // DEKD_TIMING_H_
