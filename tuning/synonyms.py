"""Everyday words that may stand for one another in a message to support, a bank or a surgery. Data, written for Retune.

A group's words have the same form and may be swapped without a change of the wish: no negation, no figure, nothing that is
the other end of a scale. What they are used for is the business of tuning.augment.
"""

GROUPS = tuple(tuple(word.strip() for word in line.split("|")) for line in """
abroad | overseas
accountant | bookkeeper
ache | pain
aching | hurting
additional | extra | further
allergic | hypersensitive
alter | change | modify
altered | changed | modified
angry | furious | annoyed
answer | reply
answered | replied | responded
anybody | anyone
anyway | anyhow
app | application
arrive | turn up | show up
arrived | turned up | shown up
arriving | turning up | showing up
assistance | help | support
straight away | immediately | right away
attorney | lawyer | solicitor
automobile | car
awful | terrible | dreadful
bad | poor
bank card | payment card
began | started
begin | start
beginning | starting
belly | tummy
big | large
bike | bicycle
bill | invoice
bills | invoices
bought | purchased
box | package | parcel
boxes | packages | parcels
bug | glitch
buy | purchase
buying | purchasing
called | phoned | rang
calling | phoning
cash machine | atm | cashpoint
cellphone | mobile phone | smartphone
centre | center
cheap | inexpensive
check | verify
checked | verified
checking | verifying
child | kid
children | kids
closed | shut down
clothes | clothing | garments
colleague | coworker
collect | pick up
collected | picked up
collecting | picking up
company | business
complain | make a complaint
complaint | grievance
whole | entire
completely | entirely | totally
computer | laptop | pc
contacted | got in touch with | reached
couch | sofa
courier | carrier | delivery driver
credit report | credit file
customer service | customer support | customer care
customer | client | shopper
customers | clients | shoppers
dad | father
daily | every day | each day
damaged | harmed
defective | faulty
delayed | held up | running late
deliver | bring
delivery | shipment
details | particulars
device | gadget
diarrhoea | diarrhea | loose stools
difficult | tricky
discount | price reduction
dispatch | ship | send out
dispatched | shipped | sent out
dispatching | shipping | sending out
dizzy | light-headed | woozy
doctor | physician | gp
doctors | physicians | gps
dollars | bucks
dosage | dose
earnings | income
easy | simple
email | e-mail | mail
emailed | e-mailed | mailed
enquiries | inquiries | questions
enquiry | inquiry | question
error | mistake
errors | mistakes
exhausted | worn out | shattered
expired | lapsed
fast | quick | speedy
faster | quicker | speedier
fill in | fill out
find | locate
finding | locating
flu | influenza
footwear | shoes
forgot | have forgotten
free of charge | complimentary
fridge | refrigerator
funds | money
garden | yard
glad | happy | pleased
goods | items | products
grandma | grandmother | gran
grandpa | grandfather | grandad
grateful | thankful
guarantee | warranty
happen | occur
happened | occurred
happening | occurring
headache | sore head
hello | hi | hey
holiday | vacation | trip
hoover | vacuum cleaner
housing loan | home loan | mortgage
husband | spouse
ill | unwell | sick
illness | sickness | ailment
inform | tell | notify
informed | told | notified
injection | jab
injured | wounded
instalment | installment
instalments | installments
item | product
jacket | coat
jumper | sweater | pullover
leaflet | brochure
log in | sign in | log on
logged in | signed in | logged on
logging in | signing in | logging on
look for | search for | hunt for
looking for | searching for | hunting for
lorry | truck
lots of | plenty of | loads of
maximum | upper limit
maybe | perhaps | possibly
medication | medicine
medications | medicines
meeting | appointment
minimum | lower limit
monthly | every month | each month
mum | mother | mom
nausea | queasiness
nauseous | queasy
nearby | close by
nearest | closest
need | require
needed | required
needs | requires
next of kin | closest relative
normally | usually | generally | typically
nurse | practice nurse
often | frequently | regularly
older person | elderly person | pensioner
online | on the internet | on the web
order number | order id | order reference
outcome | result
overdue | past due
painkiller | pain reliever | pain relief
password | passcode
pay for | settle
payment | transaction
payments | transactions
pension | retirement savings
permitted | allowed | authorised
phone number | telephone number | contact number
photo | picture | image
photos | pictures | images
pill | tablet
pills | tablets
plan | scheme
please | kindly
postcode | zip code | postal code
postman | mailman | letter carrier
prescription | script
price | cost
prices | costs
problem | issue | trouble
problems | issues | troubles
prohibited | forbidden
puzzled | confused | baffled
rapidly | quickly | swiftly
rash | skin irritation
reason | cause
receipt | proof of purchase
recently | lately | of late
refund | reimbursement | money back
refunded | reimbursed | paid back
refunding | reimbursing | paying back
relatives | family members
reliable | dependable | trustworthy
reserved | booked
rubbish | garbage | trash
rucksack | backpack
salary | wage | wages
scared | afraid | frightened
scratched | scuffed
seller | vendor | merchant
settee | loveseat
shares | stocks | equities
shipping address | delivery address
shipping cost | delivery charge | postage
shop | store
shopping basket | shopping cart | basket
shops | stores
somebody | someone
soon | shortly | before long
speak to | talk to | speak with | talk with
speaking to | talking to | speaking with
stomach | gut
stopped working | packed up | conked out
strange | odd | weird
suddenly | all of a sudden | out of the blue
suggest | propose | recommend
sure | certain
swelling | puffiness
swollen | puffed up
tax return | tax filing
television | tv | telly
text message | sms
thank you | thanks | many thanks
therapy | treatment
throw away | throw out
torch | flashlight
torn | ripped
tracking number | tracking code | consignment number
trousers | pants
understand | grasp
unfortunately | sadly
upset | distressed
urgently | as soon as possible | asap
vaccination | immunisation | inoculation
vomit | throw up
vomiting | throwing up | being sick
website | web page | site
weekly | every week | each week
windscreen | windshield
within reach | at hand
wrong size | incorrect size
yearly | every year | each year
""".strip().splitlines())
