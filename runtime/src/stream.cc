#include "stream.h"

#include <poll.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <deque>
#include <exception>
#include <map>
#include <new>

#include "error.h"
#include "inputs.h"
#include "json.h"
#include "paths.h"
#include "report.h"

namespace ofa_tvm {
namespace {

constexpr size_t kInHand = 2;       // inputs that a process has: one to work on, one to go on with
constexpr size_t kUnprinted = 256;  // answers that may wait for an earlier one

// A message between processes: its length, then so many bytes. Whether all of it was written or read; a signal tells
// only that stdout's reader has gone.
bool write_all(int to, const void *data, size_t bytes) {
  for (const char *at = static_cast<const char *>(data); bytes;) {
    const ssize_t done = ::send(to, at, bytes, MSG_NOSIGNAL);
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) return false;
    at += done;
    bytes -= static_cast<size_t>(done);
  }
  return true;
}

bool read_all(int from, void *data, size_t bytes) {
  for (char *at = static_cast<char *>(data); bytes;) {
    const ssize_t done = read(from, at, bytes);
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) return false;
    at += done;
    bytes -= static_cast<size_t>(done);
  }
  return true;
}

bool send(int to, const std::string &text) {
  const uint64_t bytes = text.size();
  return write_all(to, &bytes, sizeof bytes) && write_all(to, text.data(), text.size());
}

bool receive(int from, std::string *text) {
  uint64_t bytes;
  if (!read_all(from, &bytes, sizeof bytes)) return false;
  text->resize(bytes);
  return read_all(from, text->data(), bytes);
}

std::string error_line(const std::string &path, const std::string &what, const std::string &hint) {
  Json::Members error = {{"reason", what}, {"hint", hint}};
  return Json(Json::Members{{"input", path}, {"error", error}}).line();
}

// What a process answers: '0' and lines of results, or '1' and the line of an error.
std::string answer(const std::string &path, const Model &model, int top) {
  try {
    Report report{model, read_inputs({path}, model), {}, top, {}};
    report.logits = model.run_all(report.samples.values);
    return '0' + as_lines(report);
  } catch (const Error &error) {
    return '1' + error_line(path, error.what(), error.hint);
  } catch (const std::bad_alloc &) {
    return '1' + error_line(path, "there is not enough memory for it", "");
  } catch (const std::exception &error) {
    return '1' + error_line(path, error.what(), "");
  }
}

std::vector<int> allowed_cores() {
  cpu_set_t allowed;
  std::vector<int> cores;
  if (sched_getaffinity(0, sizeof allowed, &allowed)) return cores;
  for (int core = 0; core < CPU_SETSIZE; ++core) {
    if (CPU_ISSET(core, &allowed)) cores.push_back(core);
  }
  return cores;
}

// The network's threads stay each on a core of those allowed: each process is allowed others.
void stay_on(const std::vector<int> &cores, size_t first, size_t count) {
  if (count < 2 || first + count > cores.size()) return;
  cpu_set_t own;
  CPU_ZERO(&own);
  for (size_t i = first; i < first + count; ++i) CPU_SET(cores[i], &own);
  sched_setaffinity(0, sizeof own, &own);
}

struct Worker {
  pid_t process = -1;
  int channel = -1;
  std::deque<std::pair<size_t, std::string>> in_hand;  // number and path of inputs without an answer yet
};

class Stream {
 public:
  Stream(const StreamPlan &plan, const Model &model)
      : plan_(plan), model_(model), paths_(plan.inputs, plan.list), cores_(allowed_cores()) {
    threads_ = static_cast<size_t>(std::max(1, model.threads()));
    const size_t fit = std::max<size_t>(1, cores_.size() / threads_);
    workers_.resize(plan.workers ? static_cast<size_t>(plan.workers) : fit);
  }

  ~Stream() {
    for (Worker &worker : workers_) end(&worker);
  }

  size_t run() {
    while (true) {
      hand_out();
      print();
      const bool is_busy =
          std::any_of(workers_.begin(), workers_.end(), [](const Worker &w) { return !w.in_hand.empty(); });
      if (!is_busy && again_.empty() && paths_.source() < 0) break;
      wait();
    }
    return errors_;
  }

 private:
  bool has_room() const { return given_ - printed_ < kUnprinted; }

  bool next(std::pair<size_t, std::string> *input) {
    if (!again_.empty()) {
      *input = std::move(again_.front());
      again_.pop_front();
      return true;
    }
    if (!has_room() || !paths_.next(&input->second)) return false;
    input->first = given_++;
    return true;
  }

  // Every process its first input before any has its second.
  void hand_out() {
    for (size_t most = 1; most <= kInHand; ++most) {
      for (size_t i = 0; i < workers_.size(); ++i) {
        Worker &worker = workers_[i];
        std::pair<size_t, std::string> input;
        if (worker.in_hand.size() >= most || !next(&input)) continue;
        if (worker.process < 0) start(i);
        worker.in_hand.push_back(input);
        if (!send(worker.channel, input.second)) died(&worker);
      }
    }
  }

  // Wait for an answer, or for more paths.
  void wait() {
    std::vector<pollfd> waiting;
    for (const Worker &worker : workers_) waiting.push_back({worker.in_hand.empty() ? -1 : worker.channel, POLLIN, 0});
    waiting.push_back({has_room() ? paths_.source() : -1, POLLIN, 0});
    if (poll(waiting.data(), waiting.size(), -1) < 0) {
      if (errno != EINTR) throw failed(std::string("waiting for answers: ") + strerror(errno));
      return;
    }
    for (size_t i = 0; i < workers_.size(); ++i) {
      if (waiting[i].revents) take_answer(&workers_[i]);
    }
    if (waiting.back().revents) paths_.read_more();
  }

  void take_answer(Worker *worker) {
    std::string text;
    if (!receive(worker->channel, &text)) return died(worker);
    ever_answered_ = true;
    answers_[worker->in_hand.front().first] = text;
    worker->in_hand.pop_front();
  }

  // The input that it worked on is answered by an error; the other one goes to another process.
  void died(Worker *worker) {
    const auto [number, path] = worker->in_hand.front();
    worker->in_hand.pop_front();
    for (const auto &input : worker->in_hand) again_.push_back(input);
    worker->in_hand.clear();
    const std::string how = end(worker);
    if (!ever_answered_) throw failed("the process for " + path + " " + how, "run it alone, without --lines");
    answers_[number] = '1' + error_line(path, "the process that worked on it " + how, "run it alone, without --lines");
  }

  void print() {
    for (auto found = answers_.find(printed_); found != answers_.end(); found = answers_.find(printed_)) {
      errors_ += found->second[0] == '1';
      if (std::fputs(found->second.c_str() + 1, stdout) < 0) throw failed("the results cannot be written");
      answers_.erase(found);
      ++printed_;
    }
    if (std::fflush(stdout)) throw failed("the results cannot be written");
  }

  void start(size_t place) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends)) throw failed(std::string("no channel: ") + strerror(errno));
    const pid_t process = fork();
    if (process < 0) throw failed(std::string("no process can be started: ") + strerror(errno), "give --workers 1");
    if (!process) {
      for (const Worker &other : workers_) {  // else they would not learn that the others' work ends
        if (other.channel >= 0) close(other.channel);
      }
      close(ends[0]);
      stay_on(cores_, place * threads_, threads_);
      for (std::string path; receive(ends[1], &path) && send(ends[1], answer(path, model_, plan_.top));) {
      }
      _exit(0);
    }
    close(ends[1]);
    workers_[place].process = process;
    workers_[place].channel = ends[0];
  }

  static std::string end(Worker *worker) {
    if (worker->process < 0) return "ended";
    close(worker->channel);
    int status = 0;
    while (waitpid(worker->process, &status, 0) < 0 && errno == EINTR) {
    }
    worker->process = worker->channel = -1;
    if (WIFSIGNALED(status)) return std::string("was ended by a signal: ") + strsignal(WTERMSIG(status));
    return "ended with " + std::to_string(WEXITSTATUS(status));
  }

  const StreamPlan &plan_;
  const Model &model_;
  Paths paths_;
  const std::vector<int> cores_;
  size_t threads_ = 1, given_ = 0, printed_ = 0, errors_ = 0;
  bool ever_answered_ = false;
  std::vector<Worker> workers_;
  std::deque<std::pair<size_t, std::string>> again_;
  std::map<size_t, std::string> answers_;
};

}  // namespace

size_t stream(const StreamPlan &plan, const Model &model) { return Stream(plan, model).run(); }

}  // namespace ofa_tvm
