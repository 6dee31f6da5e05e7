package pipeline

import (
	"errors"
	"math"
	"math/big"
	"reflect"
	"strconv"
	"strings"
)

// toInt converts as the integer functions of templates do: floats are cut, text
// is read in the base that its prefix tells, and what is no integer is 0.
func toInt(v any) int64 {
	switch v := v.(type) {
	case string:
		if i := strings.IndexByte(v, '.'); i > 0 && strings.Trim(v[i+1:], "0123456789") == "" {
			v = v[:i]
		}
		n, err := strconv.ParseInt(v, 0, 64)
		if err != nil {
			return 0
		}
		return n
	case bool:
		if v {
			return 1
		}
		return 0
	}
	r := reflect.ValueOf(v)
	switch {
	case r.CanInt():
		return r.Int()
	case r.CanUint():
		return int64(r.Uint())
	case r.CanFloat():
		return int64(r.Float())
	}
	return 0
}

// toFloat converts as the float functions of templates do: junk is 0.
func toFloat(v any) float64 {
	switch v := v.(type) {
	case string:
		f, err := strconv.ParseFloat(v, 64)
		if err != nil {
			return 0
		}
		return f
	case bool:
		if v {
			return 1
		}
		return 0
	}
	r := reflect.ValueOf(v)
	switch {
	case r.CanInt():
		return float64(r.Int())
	case r.CanUint():
		return float64(r.Uint())
	case r.CanFloat():
		return r.Float()
	}
	return 0
}

func fold(v []any, f func(a, b int64) int64) int64 {
	if len(v) == 0 {
		return 0
	}
	n := toInt(v[0])
	for _, x := range v[1:] {
		n = f(n, toInt(x))
	}
	return n
}

func foldFloat(a any, v []any, f func(a, b float64) float64) float64 {
	n := toFloat(a)
	for _, x := range v {
		n = f(n, toFloat(x))
	}
	return n
}

// round rounds v to p places, half up. Of negative numbers it gives the next
// lower one: their fraction is negative, never a half.
func round(v any, p int) float64 {
	pow := math.Pow(10, float64(p))
	scaled := pow * toFloat(v)
	up, down := math.Ceil(scaled), math.Floor(scaled)
	if scaled-math.Trunc(scaled) >= 0.5 {
		return up / pow
	}
	return down / pow
}

// empty tells what default replaces.
func empty(v any) bool {
	r := reflect.ValueOf(v)
	switch {
	case !r.IsValid():
		return true
	case r.Kind() == reflect.Struct:
		return false
	case r.Kind() == reflect.Slice || r.Kind() == reflect.Map || r.Kind() == reflect.String || r.Kind() == reflect.Array:
		return r.Len() == 0
	}
	return r.IsZero()
}

// decimal is an exact decimal number.
type decimal struct{ *big.Rat }

var errNotDecimal = errors.New("not a finite number")

func newDecimal(f float64) (decimal, error) {
	// By way of the shortest text, so that 0.1 is a tenth.
	r, ok := new(big.Rat).SetString(strconv.FormatFloat(f, 'e', -1, 64))
	if !ok {
		return decimal{}, errNotDecimal
	}
	return decimal{r}, nil
}

func (d decimal) add(o decimal) (decimal, error) { return decimal{new(big.Rat).Add(d.Rat, o.Rat)}, nil }
func (d decimal) sub(o decimal) (decimal, error) { return decimal{new(big.Rat).Sub(d.Rat, o.Rat)}, nil }
func (d decimal) mul(o decimal) (decimal, error) { return decimal{new(big.Rat).Mul(d.Rat, o.Rat)}, nil }

var places16 = new(big.Int).Exp(big.NewInt(10), big.NewInt(16), nil)

// div divides to 16 places, halves away from zero.
func (d decimal) div(o decimal) (decimal, error) {
	if o.Sign() == 0 {
		return decimal{}, errDivision
	}
	q := new(big.Rat).Quo(d.Rat, o.Rat)
	num := new(big.Int).Mul(q.Num(), places16)
	num.Mul(num.Abs(num), big.NewInt(2)).Add(num, q.Denom())
	num.Quo(num, new(big.Int).Mul(q.Denom(), big.NewInt(2)))
	if q.Sign() < 0 {
		num.Neg(num)
	}
	return decimal{new(big.Rat).SetFrac(num, places16)}, nil
}

func (e *funcEnv) decimals(v []any, f func(a, b decimal) (decimal, error)) (float64, error) {
	if len(v) == 0 {
		return 0, nil
	}
	sum, err := newDecimal(toFloat(v[0]))
	for _, x := range v[1:] {
		if err != nil {
			return 0, err
		}
		var d decimal
		if d, err = newDecimal(toFloat(x)); err != nil {
			return 0, err
		}
		if sum, err = f(sum, d); err == nil {
			bits := sum.Num().BitLen() + sum.Denom().BitLen()
			err = e.charge(bits + bits*bits/1024)
		}
	}
	if err != nil {
		return 0, err
	}
	out, _ := sum.Float64()
	return out, nil
}

func digit(c byte) bool { return c >= '0' && c <= '9' }
