#ifndef DEKD_NAPI_LANE_CALLS_H_
#define DEKD_NAPI_LANE_CALLS_H_

#include <napi.h>

namespace dekd {

// Memory and files that a client shares with the agent: both sides. A region is a number of LaneTable; those made or
// adopted on a thread end with it. Faults are the numbers of LaneFault, and laneErrno() is behind kSystem.
void export_lane_calls(Napi::Env env, Napi::Object exports);

// errno of the last call here that answered kSystem or kSystemFailed on this thread.
int lane_errno();

}  // namespace dekd

#endif  // DEKD_NAPI_LANE_CALLS_H_
