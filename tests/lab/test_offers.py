"""What can be rented, and which of it holds a model: the daemon, the rental company on this machine, and a registry of models.

Cards and prices: reference/autodl.md §4.2 and §9, as the daemon's table has them; the stock is the company's, of each of its two regions."""
import company as companies
import daemon as daemons
import road
from road import DEEPSEEK

LIMIT_S = 90
WITH_PRICE = ["vGPU-48GB", "4090D", "5090", "PRO6000"]           # cheapest first
WITHOUT = {"H800", "vGPU-48GB-350W", "vGPU-32GB"}


class Offers(road.Road):
    gguf = {"context": 16384}

    def setUp(self):
        super().setUp()
        self.c = self.enterContext(companies.Company())
        self.d = self.enterContext(daemons.Daemon())
        self.d.call("ProviderAdd", provider="autodl", token={"text": self.c.developer_token}, base_url=self.c.url)

    def offers(self, **asked):
        return self.d.call("Offers", **asked)["offers"]

    def test_table_and_stock(self):
        found = self.offers()
        self.assertEqual([o["gpu"] for o in found[:4]], WITH_PRICE)
        self.assertEqual({o["gpu"] for o in found[4:]}, WITHOUT, "what has no known price comes last")
        card = next(o for o in found if o["gpu"] == "4090D")
        self.assertEqual((card["memory_gib"], card["price"]["milli"], card["price"]["unit"], card["price_day"], card["unofficial"]),
                         (24, 1880, "CNY", "2026-09-01", False))
        self.assertEqual(card["stock"], 2 * 140, "both regions where machines can be made")
        self.assertEqual(self.c.bill(), [], "looking costs nothing")

    def test_stock_that_nobody_tells_leaves_the_table(self):
        self.c.fault("bad_gateway", "stock", times=9)
        found = self.offers()
        self.assertEqual(len(found), 7)
        self.assertEqual([o for o in found if o.get("stock") is not None], [])

    def test_card_that_is_asked_for_and_one_that_the_api_lacks(self):
        for name in ("4090D", "4090d", "RTX 4090D"):
            self.assertEqual([o["gpu"] for o in self.offers(gpu=name)], ["4090D"])
        self.assertEqual([o["gpu"] for o in self.offers(gpu="v-48g")], ["vGPU-48GB"])
        said = self.d.ctl("offers", "--gpu", "4090", check=False)
        self.assertNotEqual(said.returncode, 0)
        self.assertIn("AutoDL's API has no card 4090", said.stderr)
        self.assertIn("llmhostctl instance add NAME 'ssh", said.stderr)

    def creates(self):
        return [e["call"] for e in self.c.calls() if e["call"] == "create"]

    def test_up_pays_for_no_card_that_cannot_hold_the_model_and_for_no_model_that_is_not_there(self):
        self.registry.serve_here()
        said = self.d.ctl("up", "ollama:deepseek-r1:9b", "--gpu", "4090D", check=False)
        self.assertEqual(said.returncode, 13)
        self.assertIn("nothing was rented: how large deepseek-r1:9b is cannot be asked: the registry has no such model", said.stderr)
        self.registry.fault(status=503)
        said = self.d.ctl("up", "ollama:deepseek-r1:70b", "--gpu", "4090D", check=False)
        self.assertEqual(said.returncode, 10)
        self.assertIn("nothing was rented: ollama:deepseek-r1:70b needs 46 GB, and 4090D has 24 GiB", said.stderr)
        self.assertEqual(self.creates(), [])

    def test_up_tells_what_nobody_knows(self):
        self.registry.serve_here()
        self.registry.fault(status=503)
        reply = self.d.call("Up", model="ollama:nobody:7b", gpu="4090D", wait=False)
        self.assertEqual(len(reply["notes"]), 1)
        self.assertIn("whether 4090D holds ollama:nobody:7b is not known: how large nobody:7b is cannot be asked", reply["notes"][0])
        reply = self.d.call("Up", model="ollama:deepseek-r1:32b", gpu="4090D", wait=False)
        self.assertEqual([n.partition(",")[0] for n in reply["notes"]], ["4090d (4090D) is on already"], "and none of its size")

    def test_nobody_to_ask(self):
        """A file on the machine has no registry; and a registry that has no such model says so."""
        found = self.offers(for_model="llama.cpp:/root/x.gguf")
        self.assertEqual({o["fits"] for o in found}, {"unknown"})
        self.registry.serve_here()
        said = self.d.ctl("offers", "--for", "ollama:deepseek-r1:9b", check=False)
        self.assertNotEqual(said.returncode, 0)
        self.assertIn("no such model", said.stderr)

    def test_what_holds_a_model_by_the_registrys_word(self):
        self.registry.serve_here()
        for offer in self.offers(for_model=DEEPSEEK):
            self.assertEqual((offer["fits"], offer["context"]), ("yes", 16384), "as the file has it, not the table")
            self.assertIsNone(offer.get("from_table"))
        asked = [a[1] for a in self.registry.asked]
        self.assertIn("/v2/library/deepseek-r1/manifests/7b", asked)

    def test_what_holds_a_model_that_only_the_table_knows(self):
        self.registry.serve_here()
        self.registry.fault(status=503)
        found = {o["gpu"]: o for o in self.offers(for_model="ollama:deepseek-r1:70b")}
        self.assertEqual({gpu for gpu, o in found.items() if o["fits"] == "yes"},
                         {"H800", "PRO6000", "vGPU-48GB", "vGPU-48GB-350W"})
        self.assertEqual({gpu for gpu, o in found.items() if o["fits"] == "no"}, {"4090D", "5090", "vGPU-32GB"})
        self.assertEqual(found["vGPU-48GB"]["context"] // 1024, 16)
        self.assertTrue(found["vGPU-48GB"]["from_table"])
        self.assertRegex(self.d.ctl("offers", "--for", "ollama:deepseek-r1:70b").stdout, r"(?s)vGPU-48GB .* GB~ .*by llmhost's own table")
        self.assertIn("llmhostctl offers --for ollama:tiny", self.d.ctl("offers", "--for", "tiny", check=2).stderr)
        self.assertNotIn("context", {k for k, v in found["4090D"].items() if v is not None})
