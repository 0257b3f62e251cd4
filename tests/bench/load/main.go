// Command load posts JSON bodies from -c keep-alive connections for -s seconds (at most 60) to a loopback URL. Each body has
// an order id of its own; with -secret each is signed: the hexadecimal HMAC-SHA256 of the body in the header -header.
package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"
)

const bodyA, bodyB = `{"orderId":"order-`, `","customer":{"id":"c-4711","name":"Ada Lovelace","email":"ada@example.org"},"items":[{"sku":"A-100","qty":2,"price":19.9},{"sku":"B-200","qty":1,"price":5.25}],"total":45.05}`

func main() {
	to := flag.String("url", "http://127.0.0.1:9700/inbound/orders", "")
	c := flag.Int("c", 64, "connections")
	s := flag.Float64("s", 5, "seconds")
	secret := flag.String("secret", "", "signs with it")
	header := flag.String("header", "X-Signature", "the header of the signature")
	flag.Parse()
	u, err := url.Parse(*to)
	if err != nil || (u.Hostname() != "127.0.0.1" && u.Hostname() != "localhost") || *s > 60 {
		log.Fatal("a loopback URL and at most 60 s")
	}
	tr := &http.Transport{MaxIdleConnsPerHost: *c, MaxConnsPerHost: *c}
	end := time.Now().Add(time.Duration(*s * float64(time.Second)))
	var mu sync.Mutex
	var lat []float64
	var bad int
	var wg sync.WaitGroup
	t0 := time.Now()
	for n := range *c {
		wg.Add(1)
		go func() {
			defer wg.Done()
			var mine []float64
			miss := 0
			sign := hmac.New(sha256.New, []byte(*secret))
			for i := 0; time.Now().Before(end); i++ {
				body := []byte(bodyA + strconv.Itoa(n) + "-" + strconv.Itoa(i) + bodyB)
				b := time.Now()
				q, _ := http.NewRequest("POST", *to, bytes.NewReader(body))
				q.Header.Set("Content-Type", "application/json")
				if *secret != "" {
					sign.Reset()
					sign.Write(body)
					q.Header.Set(*header, hex.EncodeToString(sign.Sum(nil)))
				}
				r, err := tr.RoundTrip(q)
				if err != nil {
					miss++
					time.Sleep(10 * time.Millisecond)
					continue
				}
				io.Copy(io.Discard, r.Body)
				r.Body.Close()
				if r.StatusCode != 200 {
					miss++
				} else {
					mine = append(mine, time.Since(b).Seconds()*1000)
				}
			}
			mu.Lock()
			lat, bad = append(lat, mine...), bad+miss
			mu.Unlock()
		}()
	}
	wg.Wait()
	wall := time.Since(t0).Seconds()
	slices.Sort(lat)
	p := func(q float64) float64 {
		if len(lat) == 0 {
			return 0
		}
		return lat[min(len(lat)-1, int(q*float64(len(lat))))]
	}
	json.NewEncoder(os.Stdout).Encode(map[string]any{"ok": len(lat), "bad": bad, "per_s": float64(len(lat)) / wall, "p50_ms": p(.5), "p99_ms": p(.99)})
	fmt.Fprintln(os.Stderr)
}
