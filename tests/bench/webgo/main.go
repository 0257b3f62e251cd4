// Command webgo is the Go yardstick for webhooks: parse a JSON POST, start a process instance over gRPC, answer.
// With -secret it checks the hexadecimal HMAC-SHA256 of the body in X-Signature first.
package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"io"
	"log"
	"net/http"
	"strconv"

	"bench/engine/pb"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:9700", "address (loopback)")
	to := flag.String("engine", "127.0.0.1:26500", "gRPC address of the engine")
	secret := flag.String("secret", "", "checks signatures by it")
	flag.Parse()
	c, err := grpc.NewClient(*to, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	g := pb.NewGatewayClient(c)
	http.HandleFunc("POST /inbound/{context}", func(w http.ResponseWriter, q *http.Request) {
		raw, err := io.ReadAll(q.Body)
		if err != nil {
			return
		}
		if *secret != "" {
			sign := hmac.New(sha256.New, []byte(*secret))
			sign.Write(raw)
			given, _ := hex.DecodeString(q.Header.Get("X-Signature"))
			if !hmac.Equal(given, sign.Sum(nil)) {
				http.Error(w, "bad signature", 401)
				return
			}
		}
		var body map[string]any
		if json.Unmarshal(raw, &body) != nil {
			http.Error(w, "bad JSON", 400)
			return
		}
		h := map[string]string{}
		for k := range q.Header {
			h[k] = q.Header.Get(k)
		}
		v, _ := json.Marshal(map[string]any{"order": body["orderId"], "total": body["total"], "request": map[string]any{"body": body, "headers": h}})
		r, err := g.CreateProcessInstance(q.Context(), &pb.CreateProcessInstanceRequest{BpmnProcessId: "webhook-process", Version: -1, Variables: string(v)})
		if err != nil {
			http.Error(w, err.Error(), 502)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Write([]byte(`{"processInstanceKey":"` + strconv.FormatInt(r.ProcessInstanceKey, 10) + `"}`))
	})
	log.Fatal(http.ListenAndServe(*addr, nil))
}
