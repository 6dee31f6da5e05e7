package shopgen

import (
	"strconv"
	"time"
)

// visit is what the log lines of one request have in common.
type visit struct {
	at               int64 // when it reached the gateway
	severity         float64
	traceHi, traceLo uint64
	user             int // 0: not logged in
	ip               uint32
	item             int // the product it is about
}

// response is how the gateway answered.
type response struct {
	method  string
	path    string
	suffix  int    // a number that ends the path; -1: none
	query   string // after "?"; empty: none
	status  int
	bytes   int
	took    int64
	agent   string
	referer string
}

// maxCharge is when the checkout service gives up on a charge.
const maxCharge = int64(5 * time.Second)

// request lets one customer (or robot) do one thing.
func (g *Generator) request(at int64) {
	v := visit{
		at:       at,
		severity: g.incident.severity(at),
		traceHi:  g.rng.Uint64(),
		traceLo:  g.rng.Uint64(),
		item:     g.popular(len(products)),
	}
	if g.chance(0.7) {
		v.user = 1000 + g.popular(4000)
	}
	// A user keeps an address; a stranger has any of the documentation nets.
	if v.user > 0 {
		v.ip = 0xC6120000 | uint32(v.user*2654435761)>>15
	} else {
		v.ip = 0xCB007100 | uint32(g.rng.IntN(256))
	}
	r := response{suffix: -1, status: 200, agent: agents[g.popular(len(agents))], referer: "https://shop.example/"}
	switch p := g.rng.Float64(); {
	case p < 0.14:
		g.asset(&v, &r)
	case p < 0.38:
		r.method, r.path, r.query = "GET", "/products", "category="+products[v.item].category
		g.browse(&v, &r, "category listed", 12*time.Millisecond, 2+g.rng.IntN(24))
	case p < 0.68:
		r.method, r.path, r.suffix = "GET", "/products/SKU-", 1000+v.item
		g.browse(&v, &r, "product served", 4*time.Millisecond, 1)
		if g.chance(0.5) {
			g.stockLookup(&v)
		}
	case p < 0.78:
		r.method, r.path, r.query = "GET", "/search", "q="+searches[g.popular(len(searches))]
		g.browse(&v, &r, "search done", 35*time.Millisecond, g.rng.IntN(12))
	case p < 0.89:
		g.cart(&v, &r)
	case p < 0.97:
		g.order(&v, &r)
	default:
		r.method, r.path, r.status = "GET", probes[g.rng.IntN(len(probes))], 404
		r.agent, r.referer, r.bytes = bots[g.rng.IntN(len(bots))], "-", 162
		r.took = g.latency(500*time.Microsecond, 0.3)
		v.user = 0
	}
	if g.chance(0.0008) {
		r.status, r.bytes = 500, 193
	}
	g.access(&v, &r)
}

// popular picks one of n so that the first ones come far more often.
func (g *Generator) popular(n int) int {
	x := g.rng.Float64()
	return int(x * x * float64(n))
}

func (g *Generator) access(v *visit, r *response) {
	if !g.wants(gateway) {
		return
	}
	end := v.at + r.took
	b, buf := g.begin()
	b = appendIPv4(b, v.ip)
	b = append(b, " - "...)
	if v.user > 0 {
		b = appendInt(append(b, 'u'), v.user)
	} else {
		b = append(b, '-')
	}
	b = append(b, " ["...)
	b = g.clocks.access.append(b, end)
	b = append(b, `] "`...)
	b = append(append(b, r.method...), ' ')
	b = append(b, r.path...)
	if r.suffix >= 0 {
		b = appendInt(b, r.suffix)
	}
	if r.query != "" {
		b = append(append(b, '?'), r.query...)
	}
	b = append(b, ` HTTP/1.1" `...)
	b = appendInt(b, r.status)
	b = append(b, ' ')
	b = appendInt(b, r.bytes)
	b = append(append(b, ` "`...), r.referer...)
	b = append(append(b, `" "`...), r.agent...)
	b = append(b, `" `...)
	b = appendSeconds(b, r.took)
	b = append(b, ' ')
	b = appendHex(appendHex(b, v.traceHi), v.traceLo)
	g.end(b, buf, end, g.host(gateway))
}

func (g *Generator) asset(v *visit, r *response) {
	r.method, r.path = "GET", assets[g.popular(len(assets))]
	r.took = g.latency(400*time.Microsecond, 0.4)
	r.bytes = 800 + g.rng.IntN(90000)
	if g.chance(0.4) {
		r.status, r.bytes = 304, 0
	}
}

func (g *Generator) browse(v *visit, r *response, msg string, median time.Duration, rows int) {
	miss := g.chance(0.3)
	if miss {
		median *= 4
	}
	took := g.latency(median, 0.6)
	r.took = took + g.latency(time.Millisecond, 0.4)
	r.bytes = 900 + rows*420 + g.rng.IntN(400)
	if !g.wants(catalog) {
		return
	}
	host := g.host(catalog)
	if miss {
		b := g.catalogLine(v, host, v.at+took/3, "debug", "cache miss")
		b.line = append(b.line, `,"key":"`...)
		b.line = append(append(b.line, products[v.item].category...), ':')
		b.line = appendInt(b.line, 1000+v.item)
		b.line = append(b.line, `","ttl_s":300}`...)
		g.end(b.line, b.buffer, v.at+took/3, host)
	}
	level := "info"
	if took > int64(500*time.Millisecond) {
		level, msg = "warn", "slow query"
	}
	b := g.catalogLine(v, host, v.at+took, level, msg)
	b.line = append(b.line, `,"sku":"SKU-`...)
	b.line = appendInt(b.line, 1000+v.item)
	b.line = append(append(b.line, `","category":"`...), products[v.item].category...)
	b.line = append(b.line, `","cache":"`...)
	if miss {
		b.line = append(b.line, "miss"...)
	} else {
		b.line = append(b.line, "hit"...)
	}
	b.line = append(b.line, `","rows":`...)
	b.line = appendInt(b.line, rows)
	b.line = append(b.line, `,"duration_ms":`...)
	b.line = append(appendMillis(b.line, took), '}')
	g.end(b.line, b.buffer, v.at+took, host)
}

type openLine struct {
	line   []byte
	buffer int32
}

func (g *Generator) catalogLine(v *visit, host int, at int64, level, msg string) openLine {
	b, buf := g.begin()
	b = append(b, `{"ts":"`...)
	b = g.clocks.appendRFC3339(b, at)
	b = append(append(b, `","level":"`...), level...)
	b = append(append(b, `","msg":"`...), msg...)
	b = append(b, `","trace_id":"`...)
	b = appendHex(appendHex(b, v.traceHi), v.traceLo)
	b = append(b, `","span_id":"`...)
	b = appendHex(b, v.traceLo^uint64(host+1)*0x9E3779B97F4A7C15)
	return openLine{append(b, '"'), buf}
}

func (g *Generator) cart(v *visit, r *response) {
	took := g.latency(9*time.Millisecond, 0.5)
	r.method, r.path, r.status = "POST", "/cart", 201
	r.took = took + g.latency(time.Millisecond, 0.4)
	r.bytes = 180 + g.rng.IntN(60)
	g.login(v)
	if !g.wants(checkout) {
		return
	}
	b, buf := g.checkoutLine(v, v.at+took, "info", "item added to cart")
	b = append(b, " sku=SKU-"...)
	b = appendInt(b, 1000+v.item)
	b = append(b, " quantity="...)
	b = appendInt(b, 1+g.popular(4))
	b = append(b, " duration="...)
	b = append(appendMillis(b, took), "ms"...)
	g.end(b, buf, v.at+took, g.host(checkout))
}

// login makes sure that the visit has a user.
func (g *Generator) login(v *visit) {
	if v.user == 0 {
		v.user = 1000 + g.popular(4000)
	}
}

func (g *Generator) checkoutLine(v *visit, at int64, level, msg string) ([]byte, int32) {
	b, buf := g.begin()
	b = append(b, "ts="...)
	b = g.clocks.appendRFC3339(b, at)
	b = append(append(b, " level="...), level...)
	b = append(append(b, ` msg="`...), msg...)
	b = append(b, `" trace_id=`...)
	b = appendHex(appendHex(b, v.traceHi), v.traceLo)
	b = append(b, " user_id=u"...)
	return appendInt(b, v.user), buf
}

// order takes a cart to the till: reserve, charge, place.
func (g *Generator) order(v *visit, r *response) {
	g.login(v)
	g.orders++
	id := g.orders
	items := 1 + g.popular(5)
	cents := products[v.item].cents*items + 490
	r.method, r.path, r.status, r.bytes = "POST", "/checkout", 201, 240+g.rng.IntN(80)

	t := v.at + g.latency(3*time.Millisecond, 0.4)
	var host int
	if g.wants(checkout) {
		host = g.host(checkout)
		b, buf := g.checkoutLine(v, t, "info", "order received")
		b = appendOrder(b, id)
		b = append(b, " items="...)
		b = appendInt(b, items)
		b = append(b, " total="...)
		b = append(appendMoney(b, cents), " currency=EUR"...)
		g.end(b, buf, t, host)
	}
	took, reserved := g.reserve(v, t, id, items)
	t += took
	outcome, reason := broken, "inventory answered 500"
	if reserved {
		outcome, took, reason = g.charge(v, t, id, cents)
		t += took
	}
	level, msg := "info", "order placed"
	switch outcome {
	case declined:
		level, msg, r.status, r.bytes = "warn", "order refused", 402, 131
	case timedOut:
		level, msg, r.status, r.bytes = "error", "order failed", 504, 167
	case broken:
		level, msg, r.status, r.bytes = "error", "order failed", 502, 157
	}
	r.took = t - v.at + g.latency(time.Millisecond, 0.4)
	if !g.wants(checkout) {
		return
	}
	b, buf := g.checkoutLine(v, t, level, msg)
	b = appendOrder(b, id)
	if reason != "" {
		b = append(append(append(b, ` err="`...), reason...), '"')
	}
	b = append(b, " duration="...)
	b = append(appendMillis(b, t-v.at), "ms"...)
	g.end(b, buf, t, host)
}

func appendOrder(b []byte, id uint64) []byte {
	return strconv.AppendUint(append(b, " order_id=ord-"...), id, 10)
}

type chargeOutcome int

const (
	authorised chargeOutcome = iota
	declined
	timedOut
	broken
)

// charge tries to take the money, twice where the first attempt breaks. It
// returns how long that took and why it failed.
func (g *Generator) charge(v *visit, at int64, order uint64, cents int) (chargeOutcome, int64, string) {
	provider := providers[g.rng.IntN(len(providers))]
	host := 0
	if g.wants(payments) {
		host = g.host(payments)
		b, buf := g.paymentLine(v, at, "debug", "charge requested", order)
		b = append(b, `,"amount":"`...)
		b = append(appendMoney(b, cents), `","currency":"EUR","provider":"`...)
		b = append(append(b, provider...), `"}`...)
		g.end(b, buf, at, host)
	}
	total := int64(0)
	for attempt := 1; ; attempt++ {
		took := g.latency(time.Duration(float64(180*time.Millisecond)*(1+20*v.severity)), 0.45)
		outcome, reason := authorised, ""
		switch {
		case took >= maxCharge:
			took, outcome, reason = maxCharge, timedOut, "context deadline exceeded"
		case g.chance(0.002 + 0.3*v.severity):
			outcome, reason = broken, "payments-db: no connection available (20 of 20 in use)"
		case g.chance(0.03):
			outcome, reason = declined, "card declined"
		}
		total += took
		if g.wants(payments) {
			g.paymentResult(v, at+total, host, order, outcome, reason, provider, attempt, took)
		}
		if outcome != broken || attempt == 2 {
			return outcome, total, reason
		}
		total += int64(100 * time.Millisecond)
	}
}

func (g *Generator) paymentResult(v *visit, at int64, host int, order uint64, outcome chargeOutcome, reason, provider string, attempt int, took int64) {
	level, msg := "info", "charge authorised"
	switch outcome {
	case declined:
		level, msg = "warn", "charge declined"
	case timedOut, broken:
		level, msg = "error", "charge failed"
	}
	b, buf := g.paymentLine(v, at, level, msg, order)
	b = append(append(b, `,"provider":"`...), provider...)
	b = append(b, `","attempt":`...)
	b = appendInt(b, attempt)
	b = append(b, `,"duration_ms":`...)
	b = appendMillis(b, took)
	if reason != "" {
		b = append(append(append(b, `,"error":"`...), reason...), '"')
	}
	g.end(append(b, '}'), buf, at, host)
}

func (g *Generator) paymentLine(v *visit, at int64, level, msg string, order uint64) ([]byte, int32) {
	b, buf := g.begin()
	b = append(b, `{"ts":"`...)
	b = g.clocks.appendRFC3339(b, at)
	b = append(append(b, `","level":"`...), level...)
	b = append(append(b, `","logger":"payments.charge","msg":"`...), msg...)
	b = append(b, `","trace_id":"`...)
	b = appendHex(appendHex(b, v.traceHi), v.traceLo)
	b = append(b, `","order_id":"ord-`...)
	b = strconv.AppendUint(b, order, 10)
	b = append(b, `","user_id":"u`...)
	return append(appendInt(b, v.user), '"'), buf
}
