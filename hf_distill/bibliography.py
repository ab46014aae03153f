"""The papers behind the methods, by arXiv id, as BibTeX for the cards of what was trained with them."""

from __future__ import annotations

from typing import NamedTuple


class Paper(NamedTuple):
    """A paper on arXiv; `key` names it in BibTeX."""

    arxiv: str
    key: str
    title: str
    authors: str

    def bibtex(self) -> str:
        """Return the entry; the year is that of the first version."""
        return "\n".join(
            (
                f"@misc{{{self.key},",
                f"  title = {{{self.title}}},",
                f"  author = {{{' and '.join(self.authors.split(', '))}}},",
                f"  year = {{20{self.arxiv[:2]}}},",
                f"  eprint = {{{self.arxiv}}},",
                "  archivePrefix = {arXiv}",
                "}",
            )
        )


_PAPERS = (
    Paper(
        "1312.6184",
        "ba2013deep",
        "Do Deep Nets Really Need to be Deep?",
        "Lei Jimmy Ba, Rich Caruana",
    ),
    Paper(
        "1412.6550",
        "romero2014fitnets",
        "FitNets: Hints for Thin Deep Nets",
        "Adriana Romero, Nicolas Ballas, Samira Ebrahimi Kahou, Antoine Chassang, Carlo Gatta, Yoshua Bengio",
    ),
    Paper(
        "1503.02531",
        "hinton2015distilling",
        "Distilling the Knowledge in a Neural Network",
        "Geoffrey Hinton, Oriol Vinyals, Jeff Dean",
    ),
    Paper(
        "1703.01780",
        "tarvainen2017mean",
        "Mean teachers are better role models: Weight-averaged consistency targets improve semi-supervised deep "
        "learning results",
        "Antti Tarvainen, Harri Valpola",
    ),
    Paper(
        "1708.04552",
        "devries2017improved",
        "Improved Regularization of Convolutional Neural Networks with Cutout",
        "Terrance DeVries, Graham W. Taylor",
    ),
    Paper(
        "1710.09412",
        "zhang2017mixup",
        "mixup: Beyond Empirical Risk Minimization",
        "Hongyi Zhang, Moustapha Cisse, Yann N. Dauphin, David Lopez-Paz",
    ),
    Paper(
        "1803.10837",
        "passalis2018learning",
        "Learning Deep Representations with Probabilistic Knowledge Transfer",
        "Nikolaos Passalis, Anastasios Tefas",
    ),
    Paper(
        "1902.03393",
        "mirzadeh2019improved",
        "Improved Knowledge Distillation via Teacher Assistant",
        "Seyed-Iman Mirzadeh, Mehrdad Farajtabar, Ang Li, Nir Levine, Akihiro Matsukawa, Hassan Ghasemzadeh",
    ),
    Paper(
        "1904.05068",
        "park2019relational",
        "Relational Knowledge Distillation",
        "Wonpyo Park, Dongju Kim, Yan Lu, Minsu Cho",
    ),
    Paper(
        "1905.04899",
        "yun2019cutmix",
        "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features",
        "Sangdoo Yun, Dongyoon Han, Seong Joon Oh, Sanghyuk Chun, Junsuk Choe, Youngjoon Yoo",
    ),
    Paper(
        "1907.09682",
        "tung2019similarity",
        "Similarity-Preserving Knowledge Distillation",
        "Frederick Tung, Greg Mori",
    ),
    Paper(
        "1909.10351",
        "jiao2019tinybert",
        "TinyBERT: Distilling BERT for Natural Language Understanding",
        "Xiaoqi Jiao, Yichun Yin, Lifeng Shang, Xin Jiang, Xiao Chen, Linlin Li, Fang Wang, Qun Liu",
    ),
    Paper(
        "1910.01108",
        "sanh2019distilbert",
        "DistilBERT, a distilled version of BERT: smaller, faster, cheaper and lighter",
        "Victor Sanh, Lysandre Debut, Julien Chaumond, Thomas Wolf",
    ),
    Paper(
        "2002.10957",
        "wang2020minilm",
        "MiniLM: Deep Self-Attention Distillation for Task-Agnostic Compression of Pre-Trained Transformers",
        "Wenhui Wang, Furu Wei, Li Dong, Hangbo Bao, Nan Yang, Ming Zhou",
    ),
    Paper(
        "2005.00727",
        "passalis2020heterogeneous",
        "Heterogeneous Knowledge Distillation using Information Flow Modeling",
        "Nikolaos Passalis, Maria Tzelepi, Anastasios Tefas",
    ),
    Paper(
        "2012.02909",
        "wang2020makes",
        "What Makes a ``Good'' Data Augmentation in Knowledge Distillation -- A Statistical Perspective",
        "Huan Wang, Suhas Lohit, Mike Jones, Yun Fu",
    ),
    Paper(
        "2012.15828",
        "wang2020minilmv2",
        "MiniLMv2: Multi-Head Self-Attention Relation Distillation for Compressing Pretrained Transformers",
        "Wenhui Wang, Hangbo Bao, Shaohan Huang, Li Dong, Furu Wei",
    ),
    Paper(
        "2104.07163",
        "jafari2021annealing",
        "Annealing Knowledge Distillation",
        "Aref Jafari, Mehdi Rezagholizadeh, Pranav Sharma, Ali Ghodsi",
    ),
    Paper(
        "2105.08919",
        "kim2021comparing",
        "Comparing Kullback-Leibler Divergence and Mean Squared Error Loss in Knowledge Distillation",
        "Taehyeon Kim, Jaehoon Oh, NakYil Kim, Sangwook Cho, Se-Young Yun",
    ),
    Paper(
        "2106.14448",
        "liang2021rdrop",
        "R-Drop: Regularized Dropout for Neural Networks",
        "Xiaobo Liang, Lijun Wu, Juntao Li, Yue Wang, Qi Meng, Tao Qin, Wei Chen, Min Zhang, Tie-Yan Liu",
    ),
    Paper(
        "2203.08679",
        "zhao2022decoupled",
        "Decoupled Knowledge Distillation",
        "Borui Zhao, Quan Cui, Renjie Song, Yiyu Qiu, Jiajun Liang",
    ),
    Paper(
        "2205.11416",
        "xu2022importance",
        "The Importance of Being Parameters: An Intra-Distillation Method for Serious Gains",
        "Haoran Xu, Philipp Koehn, Kenton Murray",
    ),
    Paper(
        "2209.07606",
        "amara2022ceskd",
        "CES-KD: Curriculum-based Expert Selection for Guided Knowledge Distillation",
        "Ibtihel Amara, Maryam Ziaeefard, Brett H. Meyer, Warren Gross, James J. Clark",
    ),
    Paper(
        "2212.05998",
        "jafari2022continuation",
        "Continuation KD: Improved Knowledge Distillation through the Lens of Continuation Optimization",
        "Aref Jafari, Ivan Kobyzev, Mehdi Rezagholizadeh, Pascal Poupart, Ali Ghodsi",
    ),
    Paper(
        "2306.08543",
        "gu2023minillm",
        "MiniLLM: Knowledge Distillation of Large Language Models",
        "Yuxian Gu, Li Dong, Furu Wei, Minlie Huang",
    ),
    Paper(
        "2306.13649",
        "agarwal2023onpolicy",
        "On-Policy Distillation of Language Models: Learning from Self-Generated Mistakes",
        "Rishabh Agarwal, Nino Vieillard, Yongchao Zhou, Piotr Stanczyk, Sabela Ramos, Matthieu Geist, Olivier Bachem",
    ),
    Paper(
        "2307.15190",
        "wen2023fdivergence",
        "f-Divergence Minimization for Sequence-Level Knowledge Distillation",
        "Yuqiao Wen, Zichao Li, Wenyu Du, Lili Mou",
    ),
    Paper(
        "2311.02253",
        "wilf2023comparative",
        "Comparative Knowledge Distillation",
        "Alex Wilf, Alex Tianyi Xu, Paul Pu Liang, Alexander Obolenskiy, Daniel Fried, Louis-Philippe Morency",
    ),
    Paper(
        "2311.13934",
        "kim2023robustness",
        "Robustness-Reinforced Knowledge Distillation with Correlation Distance and Network Pruning",
        "Seonghak Kim, Gyeongdo Ham, Yucheol Cho, Daeshik Kim",
    ),
    Paper(
        "2402.03898",
        "ko2024distillm",
        "DistiLLM: Towards Streamlined Distillation for Large Language Models",
        "Jongwoo Ko, Sungnyun Kim, Tianyi Chen, Se-Young Yun",
    ),
    Paper(
        "2402.11890",
        "zhong2024revisiting",
        "Revisiting Knowledge Distillation for Autoregressive Language Models",
        "Qihuang Zhong, Liang Ding, Li Shen, Juhua Liu, Bo Du, Dacheng Tao",
    ),
    Paper(
        "2410.05464",
        "panigrahi2024progressive",
        "Progressive distillation induces an implicit curriculum",
        "Abhishek Panigrahi, Bingbin Liu, Sadhika Malladi, Andrej Risteski, Surbhi Goel",
    ),
    Paper(
        "2503.07067",
        "ko2025distillm2",
        "DistiLLM-2: A Contrastive Approach Boosts the Distillation of LLMs",
        "Jongwoo Ko, Tianyi Chen, Sungnyun Kim, Tianyu Ding, Luming Liang, Ilya Zharkov, Se-Young Yun",
    ),
    Paper(
        "2503.17494",
        "gupta2025efficient",
        "Efficient Knowledge Distillation via Curriculum Extraction",
        "Shivam Gupta, Sushrut Karmalkar",
    ),
)

BIBLIOGRAPHY = {paper.arxiv: paper for paper in _PAPERS}
"""By arXiv id."""
