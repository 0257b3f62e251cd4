package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"
)

// rest is the slice of the REST v2 API that job workers and the connector runtime call.
func (e *engine) rest() http.Handler {
	m := http.NewServeMux()
	out := func(w http.ResponseWriter, v any) {
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(v)
	}
	items := func(xs ...any) map[string]any {
		if xs == nil {
			xs = []any{}
		}
		return map[string]any{"items": xs, "page": map[string]any{"totalItems": len(xs), "hasMoreTotalItems": false}}
	}
	m.HandleFunc("POST /bench/run", e.bench)
	m.HandleFunc("GET /bench/state", func(w http.ResponseWriter, _ *http.Request) {
		out(w, map[string]any{"streams": e.streams.Load(), "polls": e.polls.Load(), "messages": e.msgs.Load(), "instances": e.insts.Load(),
			"events": e.events.n.Load(), "first_ns": e.events.first.Load(), "last_ns": e.events.last.Load()})
	})
	m.HandleFunc("GET /v2/topology", func(w http.ResponseWriter, _ *http.Request) {
		out(w, map[string]any{"brokers": []any{map[string]any{"nodeId": 0, "host": "127.0.0.1", "port": 26501, "version": "8.8.9",
			"partitions": []any{map[string]any{"partitionId": 1, "role": "leader", "health": "healthy"}}}},
			"clusterSize": 1, "partitionsCount": 1, "replicationFactor": 1, "gatewayVersion": "8.8.9"})
	})
	m.HandleFunc("POST /v2/jobs/activation", e.restActivate)
	m.HandleFunc("POST /v2/jobs/{key}/{verb}", func(w http.ResponseWriter, q *http.Request) {
		k, _ := strconv.ParseInt(q.PathValue("key"), 10, 64)
		b, _ := io.ReadAll(q.Body)
		ok := false
		switch q.PathValue("verb") {
		case "completion":
			ok = e.complete(k, func() string { return string(b) })
		case "failure":
			ok = e.fail(k, string(b), false)
		case "error":
			ok = e.fail(k, string(b), true)
		}
		if !ok {
			http.Error(w, `{"title":"NOT_FOUND","status":404}`, 404)
			return
		}
		w.WriteHeader(204)
	})
	msg := func(w http.ResponseWriter, q *http.Request) {
		io.Copy(io.Discard, q.Body)
		out(w, map[string]any{"messageKey": strconv.FormatInt(e.event(&e.msgs), 10), "tenantId": "<default>", "processInstanceKey": strconv.FormatInt(keyBase+9, 10)})
	}
	m.HandleFunc("POST /v2/messages/publication", msg)
	m.HandleFunc("POST /v2/messages/correlation", msg)
	m.HandleFunc("POST /v2/process-instances", func(w http.ResponseWriter, q *http.Request) {
		io.Copy(io.Discard, q.Body)
		out(w, map[string]any{"processDefinitionKey": strconv.FormatInt(keyBase+7, 10), "processDefinitionId": "webhook-process",
			"processDefinitionVersion": 3, "processInstanceKey": strconv.FormatInt(e.event(&e.insts), 10), "tenantId": "<default>", "variables": map[string]any{}})
	})
	m.HandleFunc("POST /v2/process-definitions/search", func(w http.ResponseWriter, q *http.Request) { out(w, e.search(q)) })
	m.HandleFunc("GET /v2/process-definitions/{key}", func(w http.ResponseWriter, q *http.Request) {
		if d, ok := e.definition(q); ok {
			out(w, d.row())
			return
		}
		http.Error(w, `{"title":"NOT_FOUND","status":404}`, 404)
	})
	m.HandleFunc("GET /v2/process-definitions/{key}/xml", func(w http.ResponseWriter, q *http.Request) {
		d, ok := e.definition(q)
		if !ok {
			http.Error(w, `{"title":"NOT_FOUND","status":404}`, 404)
			return
		}
		w.Header().Set("Content-Type", "text/xml")
		io.WriteString(w, d.xml)
	})
	m.HandleFunc("POST /v2/{what}/search", func(w http.ResponseWriter, _ *http.Request) { out(w, items()) })
	m.HandleFunc("/", func(w http.ResponseWriter, q *http.Request) {
		fmt.Fprintln(os.Stderr, "unserved", q.Method, q.URL.Path)
		http.Error(w, `{"title":"NOT_FOUND","status":404}`, 404)
	})
	m.Handle("/debug/pprof/", http.DefaultServeMux)
	return m
}

type restJob struct {
	JobKey                   string          `json:"jobKey"`
	Type                     string          `json:"type"`
	ProcessInstanceKey       string          `json:"processInstanceKey"`
	ProcessDefinitionID      string          `json:"processDefinitionId"`
	ProcessDefinitionVersion int             `json:"processDefinitionVersion"`
	ProcessDefinitionKey     string          `json:"processDefinitionKey"`
	ElementID                string          `json:"elementId"`
	ElementInstanceKey       string          `json:"elementInstanceKey"`
	CustomHeaders            json.RawMessage `json:"customHeaders"`
	Worker                   string          `json:"worker"`
	Retries                  int             `json:"retries"`
	Deadline                 int64           `json:"deadline"`
	Variables                json.RawMessage `json:"variables"`
	TenantID                 string          `json:"tenantId"`
	Kind                     string          `json:"kind"`
	ListenerEventType        string          `json:"listenerEventType"`
}

func (e *engine) restActivate(w http.ResponseWriter, q *http.Request) {
	var a struct {
		Type              string `json:"type"`
		Worker            string `json:"worker"`
		Timeout           int64  `json:"timeout"`
		MaxJobsToActivate int    `json:"maxJobsToActivate"`
		RequestTimeout    int64  `json:"requestTimeout"`
	}
	if err := json.NewDecoder(q.Body).Decode(&a); err != nil {
		http.Error(w, "bad request", 400)
		return
	}
	e.polls.Add(1)
	jobs := []restJob{}
	for _, j := range e.take(q.Context(), a.Type, a.MaxJobsToActivate, wait(a.RequestTimeout)) {
		p := e.activated(j, a.Worker, a.Timeout)
		s := func(n int64) string { return strconv.FormatInt(n, 10) }
		jobs = append(jobs, restJob{s(p.Key), p.Type, s(p.ProcessInstanceKey), p.BpmnProcessId, 3, s(p.ProcessDefinitionKey), p.ElementId,
			s(p.ElementInstanceKey), e.hdrObj, a.Worker, 3, time.Now().UnixMilli() + a.Timeout, json.RawMessage(p.Variables), p.TenantId,
			"BPMN_ELEMENT", "UNSPECIFIED"})
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]any{"jobs": jobs})
}
