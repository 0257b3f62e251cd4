// Command engine is a synthetic Zeebe 8.8 gateway for load tests: it hands out
// jobs over gRPC (StreamActivatedJobs, ActivateJobs) or REST v2, takes their
// completions and reports throughput and latency. Process definitions for inbound
// connectors are the .bpmn files of a folder. It keeps no state but counters.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	_ "net/http/pprof"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"bench/engine/pb"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	_ "google.golang.org/grpc/encoding/gzip" // the Node SDK compresses
	"google.golang.org/grpc/status"
)

const (
	keyBase = int64(2251799813685248)
	runSpan = int64(10_000_000)
)

// Spec is one bounded load, posted to /bench/run.
type Spec struct {
	Jobs       int     `json:"jobs"`       // how many jobs
	Rate       float64 `json:"rate"`       // jobs per second created; 0: as fast as inflight allows
	Inflight   int     `json:"inflight"`   // at most so many jobs activated and not yet answered; 0: no cap
	Warm       float64 `json:"warm"`       // share of the jobs left out at the start (default 0.2)
	URL        string  `json:"url"`        // the target each job calls
	BodyBytes  int     `json:"body_bytes"` // padding in the request body
	TimeoutSec float64 `json:"timeout_s"`  // hard end
	Type       string  `json:"type"`       // job type
	Plain      bool    `json:"plain"`      // no result and error expressions, a result variable only
}

type job struct {
	run *run
	i   int
}

type run struct {
	spec    Spec
	id      int64
	created []int64 // ns: the moment the job was due
	act     []int64 // ns: handed to a worker
	done    []int64 // ns: answered
	sem     chan struct{}
	left    atomic.Int64
	dup     atomic.Int64
	failed  atomic.Int64
	thrown  atomic.Int64
	lastErr atomic.Pointer[string]
	sample  atomic.Pointer[string]
	fin     chan struct{}
	varsA   string
	varsB   string
}

type engine struct {
	pb.UnimplementedGatewayServer
	mu       sync.RWMutex
	runs     map[int64]*run
	nextRun  int64
	queue    chan job
	streams  atomic.Int64 // open job streams of the benched type
	polls    atomic.Int64
	msgs     atomic.Int64
	insts    atomic.Int64
	benchTyp atomic.Pointer[string]
	headers  string
	hdrObj   json.RawMessage
	events   timed // instances created and messages published
	latency  time.Duration
	deployed []definition
}

// timed counts, and keeps when the first and the last came.
type timed struct{ n, first, last atomic.Int64 }

func (t *timed) add() {
	at := now()
	t.first.CompareAndSwap(0, at)
	t.n.Add(1)
	t.last.Store(at)
}

func now() int64 { return time.Now().UnixNano() }

func newEngine() *engine {
	e := &engine{runs: map[int64]*run{}, queue: make(chan job, 1<<20)}
	e.headers = `{"resultVariable":"httpResult","resultExpression":"={orderId: response.body.orderId, httpStatus: response.status, total: response.body.total}","errorExpression":"=if error != null and error.code = \"404\" then bpmnError(\"NOT_FOUND\", \"missing\") else null","retryBackoff":"PT0S","elementTemplateId":"io.camunda.connectors.HttpJson.v2","elementTemplateVersion":"12"}`
	e.hdrObj = json.RawMessage(e.headers)
	t := "io.camunda:http-json:1"
	e.benchTyp.Store(&t)
	return e
}

func (e *engine) start(s Spec) *run {
	if s.Type == "" {
		s.Type = "io.camunda:http-json:1"
	}
	if s.Warm == 0 {
		s.Warm = 0.2
	}
	if s.TimeoutSec == 0 {
		s.TimeoutSec = 60
	}
	e.mu.Lock()
	e.nextRun++
	r := &run{spec: s, id: e.nextRun, created: make([]int64, s.Jobs), act: make([]int64, s.Jobs),
		done: make([]int64, s.Jobs), fin: make(chan struct{})}
	e.runs[r.id] = r
	e.mu.Unlock()
	r.left.Store(int64(s.Jobs))
	r.varsA = `{"authentication":{"type":"noAuth"},"method":"POST","url":"` + s.URL + `","headers":{"Content-Type":"application/json","X-Tenant":"acme","X-Request-Source":"bench"},"queryParameters":{"channel":"web","dryRun":"false"},"body":{"orderId":"order-`
	r.varsB = `","customer":{"id":"c-4711","name":"Ada Lovelace","email":"ada@example.org"},"items":[{"sku":"A-100","qty":2,"price":19.9},{"sku":"B-200","qty":1,"price":5.25}],"note":"` + strings.Repeat("x", s.BodyBytes) + `"},"connectionTimeoutInSeconds":20,"readTimeoutInSeconds":20,"writeTimeoutInSeconds":0,"ignoreNullValues":false,"storeResponse":false}`
	if s.Inflight > 0 {
		r.sem = make(chan struct{}, s.Inflight)
	}
	e.benchTyp.Store(&s.Type)
	go e.feed(r)
	return r
}

func (e *engine) feed(r *run) {
	end := time.NewTimer(time.Duration(r.spec.TimeoutSec * float64(time.Second)))
	defer end.Stop()
	t0 := time.Now()
	for i := range r.spec.Jobs {
		if r.spec.Rate > 0 {
			due := t0.Add(time.Duration(float64(i) / r.spec.Rate * float64(time.Second)))
			if d := time.Until(due); d > 0 {
				time.Sleep(d)
			}
			atomic.StoreInt64(&r.created[i], due.UnixNano())
		}
		if r.sem != nil {
			select {
			case r.sem <- struct{}{}:
			case <-end.C:
				return
			}
		}
		if r.spec.Rate == 0 {
			atomic.StoreInt64(&r.created[i], now())
		}
		e.queue <- job{r, i}
	}
}

// settle marks the job as answered; false when the key is unknown or was answered before.
func (e *engine) settle(key int64) (*run, bool) {
	k := key - keyBase
	e.mu.RLock()
	r := e.runs[k/runSpan]
	e.mu.RUnlock()
	i := k % runSpan
	if r == nil || i < 0 || i >= int64(len(r.done)) || atomic.LoadInt64(&r.act[i]) == 0 {
		return nil, false
	}
	if !atomic.CompareAndSwapInt64(&r.done[i], 0, now()) {
		r.dup.Add(1)
		return nil, false
	}
	if r.sem != nil {
		<-r.sem
	}
	return r, true
}

func (r *run) finishOne() {
	if r.left.Add(-1) == 0 {
		close(r.fin)
	}
}

func (e *engine) complete(key int64, vars func() string) bool {
	r, ok := e.settle(key)
	if !ok {
		return false
	}
	if r.sample.Load() == nil {
		v := vars()
		r.sample.Store(&v)
	}
	r.finishOne()
	return true
}

func (e *engine) fail(key int64, msg string, thrown bool) bool {
	r, ok := e.settle(key)
	if !ok {
		return false
	}
	if thrown {
		r.thrown.Add(1)
	} else {
		r.failed.Add(1)
	}
	r.lastErr.Store(&msg)
	r.finishOne()
	return true
}

func key(j job) int64        { return keyBase + j.run.id*runSpan + int64(j.i) }
func variables(j job) string { return j.run.varsA + fmt.Sprint(j.i) + j.run.varsB }

func (e *engine) activated(j job, worker string, timeout int64) *pb.ActivatedJob {
	atomic.StoreInt64(&j.run.act[j.i], now())
	k := key(j)
	h := e.headers
	if j.run.spec.Plain {
		h = `{"resultVariable":"httpResult"}`
	}
	return &pb.ActivatedJob{Key: k, Type: j.run.spec.Type, ProcessInstanceKey: k + 1, BpmnProcessId: "order-process",
		ProcessDefinitionVersion: 3, ProcessDefinitionKey: keyBase + 7, ElementId: "Activity_call_http", ElementInstanceKey: k + 2,
		CustomHeaders: h, Worker: worker, Retries: 3, Deadline: time.Now().UnixMilli() + timeout,
		Variables: variables(j), TenantId: "<default>"}
}

// take waits for up to max jobs (the first one until d has passed).
func (e *engine) take(ctx context.Context, typ string, max int, d time.Duration) []job {
	t := time.NewTimer(d)
	defer t.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	var out []job
	for {
		q := e.queue
		if typ != *e.benchTyp.Load() || e.streams.Load() > 0 { // streams are served first, as in the real engine
			q = nil
		}
		select {
		case j := <-q:
			out = append(out, j)
			for len(out) < max {
				select {
				case j := <-q:
					out = append(out, j)
				default:
					return out
				}
			}
			return out
		case <-t.C:
			return nil
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func wait(ms int64) time.Duration {
	if ms == 0 {
		return 10 * time.Second
	}
	return time.Duration(max(ms, 1)) * time.Millisecond
}

func (e *engine) StreamActivatedJobs(q *pb.StreamActivatedJobsRequest, s grpc.ServerStreamingServer[pb.ActivatedJob]) error {
	if q.Type != *e.benchTyp.Load() {
		<-s.Context().Done()
		return nil
	}
	e.streams.Add(1)
	defer e.streams.Add(-1)
	for {
		select {
		case j := <-e.queue:
			if s.Context().Err() != nil {
				e.queue <- j
				return nil
			}
			if err := s.Send(e.activated(j, q.Worker, q.Timeout)); err != nil {
				atomic.StoreInt64(&j.run.act[j.i], 0)
				e.queue <- j
				return err
			}
		case <-s.Context().Done():
			return nil
		}
	}
}

func (e *engine) ActivateJobs(q *pb.ActivateJobsRequest, s grpc.ServerStreamingServer[pb.ActivateJobsResponse]) error {
	e.polls.Add(1)
	js := e.take(s.Context(), q.Type, int(q.MaxJobsToActivate), wait(q.RequestTimeout))
	if len(js) == 0 {
		return nil
	}
	res := &pb.ActivateJobsResponse{}
	for _, j := range js {
		res.Jobs = append(res.Jobs, e.activated(j, q.Worker, q.Timeout))
	}
	return s.Send(res)
}

var notFound = status.Error(codes.NotFound, "no such job")

func (e *engine) CompleteJob(_ context.Context, q *pb.CompleteJobRequest) (*pb.CompleteJobResponse, error) {
	if !e.complete(q.JobKey, func() string { return q.Variables }) {
		return nil, notFound
	}
	return &pb.CompleteJobResponse{}, nil
}

func (e *engine) FailJob(_ context.Context, q *pb.FailJobRequest) (*pb.FailJobResponse, error) {
	if !e.fail(q.JobKey, q.ErrorMessage, false) {
		return nil, notFound
	}
	return &pb.FailJobResponse{}, nil
}

func (e *engine) ThrowError(_ context.Context, q *pb.ThrowErrorRequest) (*pb.ThrowErrorResponse, error) {
	if !e.fail(q.JobKey, q.ErrorCode+" "+q.ErrorMessage, true) {
		return nil, notFound
	}
	return &pb.ThrowErrorResponse{}, nil
}

// event is what a command that starts or reaches an instance costs: the latency of the log behind it.
func (e *engine) event(count *atomic.Int64) int64 {
	time.Sleep(e.latency)
	e.events.add()
	return keyBase + count.Add(1)
}

func (e *engine) PublishMessage(context.Context, *pb.PublishMessageRequest) (*pb.PublishMessageResponse, error) {
	return &pb.PublishMessageResponse{Key: e.event(&e.msgs), TenantId: "<default>"}, nil
}

func (e *engine) CreateProcessInstance(_ context.Context, q *pb.CreateProcessInstanceRequest) (*pb.CreateProcessInstanceResponse, error) {
	return &pb.CreateProcessInstanceResponse{ProcessDefinitionKey: keyBase + 7, BpmnProcessId: q.BpmnProcessId, Version: 3,
		ProcessInstanceKey: e.event(&e.insts), TenantId: "<default>"}, nil
}

func (e *engine) Topology(context.Context, *pb.TopologyRequest) (*pb.TopologyResponse, error) {
	return &pb.TopologyResponse{ClusterSize: 1, PartitionsCount: 1, ReplicationFactor: 1, GatewayVersion: "8.8.9",
		Brokers: []*pb.BrokerInfo{{NodeId: 0, Host: "127.0.0.1", Port: 26501, Version: "8.8.9",
			Partitions: []*pb.Partition{{PartitionId: 1, Role: pb.Partition_LEADER, Health: pb.Partition_HEALTHY}}}}}, nil
}

// Result is what a load gave.
type Result struct {
	Jobs      int     `json:"jobs"`
	Completed int     `json:"completed"`
	Distinct  int     `json:"distinct"`
	Dup       int64   `json:"dup"`
	Failed    int64   `json:"failed"`
	Thrown    int64   `json:"thrown"`
	Error     string  `json:"error,omitempty"`
	Steady    float64 `json:"jobs_per_s"` // over the steady window
	WindowSec float64 `json:"window_s"`
	WallSec   float64 `json:"wall_s"` // first activation to last answer
	P50       float64 `json:"p50_ms"`
	P95       float64 `json:"p95_ms"`
	P99       float64 `json:"p99_ms"`
	Max       float64 `json:"max_ms"`
	FirstDone int64   `json:"first_done_ns"`
	Sample    string  `json:"sample_vars,omitempty"`
	Timeout   bool    `json:"timeout,omitempty"`
}

func (r *run) result(timedOut bool) Result {
	res := Result{Jobs: r.spec.Jobs, Dup: r.dup.Load(), Failed: r.failed.Load(), Thrown: r.thrown.Load(), Timeout: timedOut}
	if p := r.lastErr.Load(); p != nil {
		res.Error = (*p)[:min(len(*p), 300)]
	}
	if p := r.sample.Load(); p != nil {
		res.Sample = (*p)[:min(len(*p), 400)]
	}
	skip := int(float64(r.spec.Jobs) * r.spec.Warm)
	var ends []int64
	var lat []float64
	first := int64(1 << 62)
	for i := range r.done {
		a, d := atomic.LoadInt64(&r.act[i]), atomic.LoadInt64(&r.done[i])
		if d == 0 {
			continue
		}
		res.Distinct++
		ends = append(ends, d)
		first = min(first, a)
		if i >= skip {
			lat = append(lat, float64(d-atomic.LoadInt64(&r.created[i]))/1e6)
		}
	}
	res.Completed = res.Distinct - int(res.Failed) - int(res.Thrown)
	if len(ends) == 0 {
		return res
	}
	slices.Sort(ends)
	slices.Sort(lat)
	res.FirstDone = ends[0]
	res.WallSec = float64(ends[len(ends)-1]-first) / 1e9
	lo, hi := int(float64(len(ends))*r.spec.Warm), int(float64(len(ends))*0.97)
	if hi > lo+1 {
		res.WindowSec = float64(ends[hi-1]-ends[lo]) / 1e9
		res.Steady = float64(hi-1-lo) / res.WindowSec
	}
	pick := func(q float64) float64 { return lat[min(len(lat)-1, int(q*float64(len(lat))))] }
	if len(lat) > 0 {
		res.P50, res.P95, res.P99, res.Max = pick(0.5), pick(0.95), pick(0.99), lat[len(lat)-1]
	}
	return res
}

func (e *engine) bench(w http.ResponseWriter, q *http.Request) {
	var s Spec
	if err := json.NewDecoder(q.Body).Decode(&s); err != nil || s.Jobs < 1 || s.Jobs > 5_000_000 {
		http.Error(w, "bad spec", 400)
		return
	}
	r := e.start(s)
	timedOut := false
	select {
	case <-r.fin:
	case <-time.After(time.Duration(r.spec.TimeoutSec * float64(time.Second))):
		timedOut = true
	case <-q.Context().Done():
		timedOut = true
	}
	for timedOut { // drop what nobody took
		select {
		case <-e.queue:
			continue
		default:
		}
		break
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(r.result(timedOut))
	e.mu.Lock()
	delete(e.runs, r.id)
	e.mu.Unlock()
}

func main() {
	grpcAddr := flag.String("grpc", "127.0.0.1:26500", "gRPC address (loopback)")
	restAddr := flag.String("rest", "127.0.0.1:8088", "REST v2 and control address (loopback)")
	deploy := flag.String("deploy", "", "folder: each .bpmn file is a deployed process, its name is the id of the process")
	latency := flag.Duration("latency", 0, "how long creating an instance and publishing a message take")
	flag.Parse()
	e := newEngine()
	e.latency = *latency
	var err error
	if e.deployed, err = definitions(*deploy); err != nil {
		log.Fatal(err)
	}
	l, err := net.Listen("tcp", *grpcAddr)
	if err != nil {
		log.Fatal(err)
	}
	g := grpc.NewServer(grpc.MaxConcurrentStreams(1<<20), grpc.NumStreamWorkers(4))
	pb.RegisterGatewayServer(g, e)
	go func() { log.Fatal(g.Serve(l)) }()
	log.Fatal(http.ListenAndServe(*restAddr, e.rest()))
}
