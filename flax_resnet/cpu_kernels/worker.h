// One thread that does all the work.

#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "xla/ffi/api/ffi.h"

namespace cpu_kernels {

namespace ffi = xla::ffi;

// XLA calls from any of its threads, several at once when it has several devices. Each thread that opens an
// OpenMP region gets a team of its own, and teams that spin take the cores from each other; so all calls queue
// for one thread. Its caches and buffers then need no locks.
class Worker {
 public:
  static Worker& instance() {
    static Worker* worker = new Worker;  // lives as long as the process: XLA may call until the very end
    return *worker;
  }

  // Runs `work` on the worker's thread, and returns what it threw as an error.
  ffi::Error run(const std::function<void()>& work) {
    Job job{&work, {}, false};
    std::unique_lock<std::mutex> lock(mutex_);
    jobs_.push_back(&job);
    queued_.notify_one();
    finished_.wait(lock, [&] { return job.done; });
    return job.error.empty() ? ffi::Error::Success() : ffi::Error::Internal(job.error);
  }

 private:
  struct Job {
    const std::function<void()>* work;
    std::string error;
    bool done;
  };

  Worker() { std::thread(&Worker::loop, this).detach(); }

  void loop() {
    for (;;) {
      std::unique_lock<std::mutex> lock(mutex_);
      queued_.wait(lock, [&] { return !jobs_.empty(); });
      Job* job = jobs_.front();
      jobs_.pop_front();
      lock.unlock();
      std::string error;
      try {
        (*job->work)();
      } catch (const std::exception& e) {
        error = std::string("cpu_kernels: ") + e.what();
      }
      lock.lock();
      job->error = error;
      job->done = true;
      finished_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable queued_, finished_;
  std::deque<Job*> jobs_;
};

}  // namespace cpu_kernels
